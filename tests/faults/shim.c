/* Preloaded by tests: does one thing at one read of a checkpoint.
 *
 * FAULT_KIND and FAULT_AT (or fault_set) say what, and at which call from 1 on. Calls are counted for files whose
 * name ends in .safetensors or .npz. What changes a file happens before the read; with FAULT_KIND=cut-mapped, after a
 * range of a map was brought into memory, which is when nothing but a signal can tell. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char kind[32];
static int at, calls;

void fault_set(const char *new_kind, int new_at) {
    snprintf(kind, sizeof kind, "%s", new_kind);
    at = new_at;
    calls = 0;
}

int fault_calls(void) { return calls; }

__attribute__((constructor)) static void from_environment(void) {
    const char *k = getenv("FAULT_KIND"), *n = getenv("FAULT_AT");
    if (k && n) fault_set(k, atoi(n));
}

static int ends(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int is_ours(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    path[n < 0 ? 0 : n] = 0;
    return ends(path, ".safetensors") || ends(path, ".npz");
}

static void meddle(const char *path, off_t size) {
    if (!strcmp(kind, "cut")) {
        if (truncate(path, size / 2)) abort();
    } else if (!strcmp(kind, "rewrite") || !strcmp(kind, "grow")) {
        int fd = open(path, O_WRONLY);
        if (pwrite(fd, "x", 1, kind[0] == 'g' ? size : size - 1) != 1) abort();
        close(fd);
    }
}

ssize_t pread64(int fd, void *buffer, size_t count, off_t offset) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    char path[4096];
    if (!at || !strcmp(kind, "cut-mapped") || !is_ours(fd, path, sizeof path)) return real(fd, buffer, count, offset);
    if (__sync_add_and_fetch(&calls, 1) == at) {
        if (!strcmp(kind, "short")) return real(fd, buffer, count ? 1 : 0, offset);
        const int error = !strcmp(kind, "EIO") ? EIO : !strcmp(kind, "ESTALE") ? ESTALE : !strcmp(kind, "EINTR") ? EINTR : 0;
        if (error) {
            errno = error;
            return -1;
        }
        meddle(path, lseek(fd, 0, SEEK_END));
    }
    return real(fd, buffer, count, offset);
}

int madvise(void *address, size_t length, int advice) {
    static int (*real)(void *, size_t, int);
    if (!real) real = dlsym(RTLD_NEXT, "madvise");
    int result = real(address, length, advice);
    const char *path = getenv("FAULT_PATH");
    if (advice == 22 /* MADV_POPULATE_READ */ && path && !strcmp(kind, "cut-mapped") &&
        __sync_add_and_fetch(&calls, 1) == at && truncate(path, 100))
        abort();
    return result;
}
