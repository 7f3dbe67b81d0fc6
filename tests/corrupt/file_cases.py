"""Files that are not what their name says, or not there, or not whole."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

from build import Member, case, entry, file, npy, npz, one, st, tensors, weights, zipped

from checkpoints import unit_rows, write_saelens
from unitrow.discover import PARTIAL_SUFFIXES

SOUND = tensors({"w": weights(64, 64)})
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 123456\n"


def fifo(folder):
    os.mkfifo(folder / "model.safetensors")


def directory(folder):
    (folder / "model.safetensors").mkdir()


def dangling(folder):
    (folder / "model.safetensors").symlink_to("blobs/gone")


def forbidden(folder):
    (folder / "model.safetensors").write_bytes(SOUND)
    (folder / "model.safetensors").chmod(0)


def sparse(tensor_bytes, *, name="w", holes_first=True):
    """A tensor of U8 that was never written; or one beside data that was."""

    def build(folder):
        whole = st({name: entry("U8", [tensor_bytes], [0, tensor_bytes])}, b"")
        with (folder / "model.safetensors").open("wb") as out:
            out.write(whole)
            if not holes_first:
                out.write(b"\1" * (tensor_bytes // 2))
                out.seek(len(whole) + tensor_bytes - 1)
                out.write(b"\1")
            out.truncate(len(whole) + tensor_bytes)

    return build


def sidecar(folder):
    (folder / "model.safetensors").write_bytes(SOUND)
    (folder / "model.safetensors.aria2").write_bytes(b"\0\1")


def partial(name):
    def build(folder):
        (folder / name).write_bytes(SOUND[: len(SOUND) // 2])

    return build


def hidden_archive():
    """A tensor at the end of the file that is a zip archive too."""
    inner = zipped(Member("w.npy", npy(weights(8, 8))))
    return st({"w": entry("U8", [len(inner)], [0, len(inner)])}, inner)


def loaded_torch(folder):
    (folder / "ae.pt").write_bytes(b"PK\3\4")


def blob(name):
    """A Hugging Face cache, in which a file's content has this name."""

    def build(folder):
        repository = folder / "models--x--y"
        snapshot = repository / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (repository / "blobs").mkdir()
        (repository / "blobs" / name).write_bytes(SOUND)
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/{name}")
        return snapshot

    return build


def downloaded(etag):
    """A file as `hf download --local-dir` leaves it, with the digest that the hub named."""

    def build(folder):
        notes = folder / ".cache" / "huggingface" / "download"
        notes.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(SOUND)
        (notes / "model.safetensors.metadata").write_text(f"{'0' * 40}\n{etag}\n1700000000.0\n")

    return build


RIGHT, WRONG = hashlib.sha256(SOUND).hexdigest(), "ab" * 32


def beside_config(make):
    """A sound checkpoint whose configuration cannot be read."""

    def build(folder):
        write_saelens(folder, unit_rows(32, 16))
        (folder / "cfg.json").unlink(missing_ok=True)
        make(folder / "cfg.json")

    return build


CASES = {
    "empty": file(b"", "fail", "FS_EMPTY"),
    "lfs_pointer": file(POINTER, "fail", "FS_LFS_POINTER"),
    "html": file(b"<!DOCTYPE html><html><body>404</body></html>", "fail", "FS_TEXT"),
    "html_in_latin_1": file("<html>Nicht verf\u00fcgbar</html>".encode("latin-1"), "fail", "FS_TEXT"),
    "error_page_in_utf_16": file("<html>Not available</html>".encode("utf-16"), "fail", "FS_TEXT"),
    "json_error": file(b'{"error":"Unauthorized"}', "fail", "FS_TEXT"),
    "gzip": file(gzip.compress(SOUND), "fail", "FS_WRONG_FORMAT"),
    "gguf": file(b"GGUF\3\0\0\0" + bytes(56), "fail", "FS_WRONG_FORMAT"),
    "hdf5": file(b"\x89HDF\r\n\x1a\n" + bytes(56), "fail", "FS_WRONG_FORMAT"),
    "zip": file(npz(), "fail", "FS_WRONG_FORMAT"),
    "fifo": case(fifo, "unreadable", "FS_NOT_REGULAR"),
    "directory": case(directory, "unreadable", "FS_NOT_REGULAR"),
    "dangling": case(dangling, "unreadable", "FS_BROKEN_LINK"),
    "permission": case(forbidden, "unreadable", "FS_PERMISSION"),
    "torch": case(loaded_torch, "unreadable", "FS_UNSUPPORTED"),
    "sparse": case(sparse(64 << 20), "fail", "FS_SPARSE", "V_ALL_ZERO"),
    "holes_alone": case(sparse(1 << 20, holes_first=False), "note", "FS_SPARSE"),
    "aria2_sidecar": case(sidecar, "warn", "FS_PARTIAL_DOWNLOAD"),
    **{
        f"partial{suffix}": case(partial(f"model.safetensors{suffix}"), "fail", "FS_PARTIAL_DOWNLOAD")
        for suffix in PARTIAL_SUFFIXES
    },
    "killed_save": case(partial(".tmpAb3xYz"), "fail", "FS_PARTIAL_DOWNLOAD"),
    "polyglot_tensor": file(hidden_archive(), "warn", "FS_POLYGLOT"),
    "config_is_a_folder": case(beside_config(Path.mkdir), "unreadable", "FS_NOT_REGULAR"),
    "config_is_a_pipe": case(beside_config(os.mkfifo), "unreadable", "FS_NOT_REGULAR"),
    "config_leads_nowhere": case(
        beside_config(lambda path: path.symlink_to("gone")), "unreadable", "FS_BROKEN_LINK"
    ),
    "hub_blob_of_another_name": case(blob(WRONG), "fail", "H_MISMATCH", digest="sha256"),
    "ok_hub_blob": case(blob(RIGHT), "pass", digest="sha256"),
    "ok_hub_blob_of_another_name_not_hashed": case(blob(WRONG), "pass"),
    "local_dir_of_another_digest": case(downloaded(WRONG), "fail", "H_MISMATCH", digest="sha256"),
    "ok_local_dir": case(downloaded(RIGHT), "pass", digest="sha256"),
    "ok_named_as_it_is": file(one(), "pass"),
}
