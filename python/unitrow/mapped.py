"""`--io mmap`: files are mapped, and scanned in a process of its own.

A file that is cut while it is mapped ends the process that touches it with SIGBUS. A handler for that signal
would belong to the whole process, which is not a library's to change; a child's death harms nobody. Whatever
the child did not finish, and every file it could not read, is read by position in the calling process, which
says what is wrong with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from unitrow import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from unitrow._native import FileScan
    from unitrow.scanning import Task


def scan_mapped(
    tasks: Sequence[Task],
    jobs: int | None,
    progress: Callable[[int], None] | None = None,
    finished: Callable[[int, FileScan], None] | None = None,
) -> list[FileScan]:
    """Scan files through maps; like `_native.scan`, whatever happens to them meanwhile."""
    done: dict[int, FileScan] = {}
    for kind, value in _in_child(tasks, jobs):
        if kind == "done":
            if progress is not None:
                progress(value)
            continue
        index, scan = value
        done[index] = scan
        if finished is not None:
            finished(index, scan)
    left = [index for index in range(len(tasks)) if index not in done]
    again = _native.scan(
        [tasks[index] for index in left],
        jobs,
        progress,
        None if finished is None else lambda place, scan: finished(left[place], scan),
    )
    done.update(zip(left, again, strict=True))
    return [done[index] for index in range(len(tasks))]


def _in_child(tasks: Sequence[Task], jobs: int | None) -> Iterator[tuple[str, Any]]:
    """What a child says until it ends: bytes done, and the scans of files, under the index of their task."""
    if not sys.executable:
        return  # an interpreter inside another program: there is nothing to start
    request = [(os.fspath(header.path), header.identity, *rest) for header, *rest in tasks]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.Popen(
        # -P: nothing is imported from the working directory, which may be what is audited.
        [sys.executable, "-P", "-c", "from unitrow.mapped import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    with child:
        try:
            with contextlib.suppress(BrokenPipeError), cast("BinaryIO", child.stdin) as pipe:
                pipe.write(json.dumps([request, jobs]).encode())
            # A child that dies leaves its last line torn.
            with contextlib.suppress(json.JSONDecodeError):
                for line in cast("BinaryIO", child.stdout):
                    yield tuple(json.loads(line))
        finally:
            child.kill()


def main() -> None:
    """The child: scan what stands in stdin, and say on stdout what was found."""
    import resource

    # A file that is cut is no reason for a core dump.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    def say(kind: str, value: object) -> None:
        sys.stdout.write(json.dumps([kind, value]) + "\n")
        sys.stdout.flush()

    request, jobs = json.load(sys.stdin)
    headers = _native.read_headers([path for path, *_ in request], jobs)
    same = [
        place for place, header in enumerate(headers) if header.identity == tuple(request[place][1] or ())
    ]

    def finished(place: int, scan: FileScan) -> None:
        if not any(found["severity"] == "unreadable" for found in scan["findings"]):
            say("scan", (same[place], scan))

    tasks = [
        (headers[place], [tuple(decoder) for decoder in decoders], values, digest)
        for place in same
        for _, _, decoders, values, digest in [request[place]]
    ]
    _native.scan(tasks, jobs, lambda done: say("done", done), finished, mapped=True)
