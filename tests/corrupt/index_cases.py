"""A shard index and its shards: what one says and the others are not."""

from __future__ import annotations

import json

from build import case, tensors, weights

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
A, B = weights(32, 16, seed=1), weights(8, 16, seed=2)
SIZE = A.nbytes + B.nbytes
MAP = {"a": FIRST, "b": SECOND}


def index_text(weight_map=MAP, *, size=SIZE, **more):
    metadata = {} if size is ... else {"metadata": {"total_size": size}}
    return json.dumps({**metadata, "weight_map": weight_map, **more}).encode()


def sharded(index=None, *, first=None, second=None, more=None):
    """The set of two shards, with this index, and with other tensors in its files."""
    files = {
        INDEX: index_text() if index is None else index,
        FIRST: tensors({"a": A}) if first is None else first,
        SECOND: tensors({"b": B}) if second is None else second,
        **(more or {}),
    }

    def build(folder):
        for name, data in files.items():
            if data is not ...:
                (folder / name).write_bytes(data)

    return build


def mapped(shard, verdict="fail", *codes):
    """An index that says that b is in this shard."""
    return case(sharded(index_text({"a": FIRST, "b": shard})), verdict, *(codes or ["X_PATH"]))


def linked_out(folder):
    sharded()(folder)
    (folder / "set").mkdir()
    for name in (INDEX, FIRST):
        (folder / name).rename(folder / "set" / name)
    (folder / SECOND).rename(folder / "elsewhere")
    (folder / "set" / SECOND).symlink_to("../elsewhere")
    return folder / "set"


def snapshot(folder):
    """A Hugging Face cache: every file is a link to a blob."""
    sharded()(folder)
    blobs, files = folder / "models--x--y" / "blobs", folder / "models--x--y" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    files.mkdir(parents=True)
    for name in (INDEX, FIRST, SECOND):
        (folder / name).rename(blobs / name[:12].replace(".", ""))
        (files / name).symlink_to(f"../../blobs/{name[:12].replace('.', '')}")
    return files


def by_index(folder):
    sharded()(folder)
    return folder / INDEX


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 123456\n"

INDEXES = {
    "ok_sharded": case(sharded(), "pass"),
    "ok_by_index": case(by_index, "pass"),
    "no_weight_map": case(sharded(b'{"metadata":{"total_size":20}}'), "fail", "X_BAD_INDEX"),
    "dup_key": case(
        sharded(index_text().replace(b'"b"', b'"a"')), "fail", "X_DUP_KEY"
    ),
    "total_size_str": case(sharded(index_text(size=str(SIZE))), "warn", "X_TOTAL_SIZE"),
    "total_size_float": case(sharded(index_text(size=float(SIZE))), "note", "X_TOTAL_SIZE"),
    "total_size_neg": case(sharded(index_text(size=-1)), "warn", "X_TOTAL_SIZE"),
    "no_metadata": case(sharded(index_text(size=...)), "note", "X_TOTAL_SIZE"),
    "bom": case(sharded(b"\xef\xbb\xbf" + index_text()), "warn", "X_BAD_INDEX"),
    "empty_map": case(sharded(index_text({}), first=..., second=...), "warn", "X_BAD_INDEX"),
    "nonstring": mapped(7, "fail", "X_BAD_INDEX"),
    "lfs_index": case(sharded(LFS), "fail", "FS_LFS_POINTER"),
    "depth_bomb": case(
        sharded(b'{"weight_map":' + b'{"a":' * 100_000), "fail", "X_BAD_INDEX"
    ),
}  # fmt: skip

PATHS = {
    "abs_path": mapped("/etc/passwd"),
    "traversal": mapped("../x001_ok/" + SECOND),
    "backslash": mapped("..\\x.safetensors"),
    "url": mapped("https://evil/x.safetensors"),
    "shard_symlink_out": case(linked_out, "warn", "X_PATH"),
    "ok_hub_snapshot": case(snapshot, "pass"),
    "empty_name": mapped(""),
    "nul_path": mapped(SECOND[:-4] + "\0"),
}

SETS = {
    "missing_shard": case(sharded(second=...), "fail", "X_SHARD_MISSING"),
    "tensor_missing": case(
        sharded(index_text({**MAP, "c": SECOND})), "fail", "X_TENSOR_MISSING"
    ),
    "tensor_extra": case(sharded(index_text({"a": FIRST, "c": SECOND})), "fail", "X_TENSOR_UNLISTED"),
    "wrong_shard": case(sharded(index_text({"a": SECOND, "b": FIRST})), "fail", "X_WRONG_SHARD"),
    "dup_across": case(sharded(second=tensors({"a": A + 1, "b": B})), "fail", "X_DUP_TENSOR"),
    "dup_shard": case(
        sharded(first=tensors({"b": B}), second=tensors({"b": B})), "fail", "X_DUP_SHARD"
    ),
    "orphan": case(
        sharded(more={"model-00003-of-00004.safetensors": tensors({"c": A})}), "warn", "X_ORPHAN"
    ),
    "of_count": case(
        sharded(
            index_text({key: name.replace("of-00002", "of-00003") for key, name in MAP.items()}),
            first=..., second=...,
            more={
                FIRST.replace("of-00002", "of-00003"): tensors({"a": A}),
                SECOND.replace("of-00002", "of-00003"): tensors({"b": B}),
            },
        ),
        "fail", "X_SHARD_COUNT",
    ),
    "total_size_wrong": case(sharded(index_text(size=SIZE + 1)), "warn", "X_TOTAL_SIZE"),
    "truncated_shard": case(sharded(second=tensors({"b": B})[:-1]), "fail", "ST_TRUNCATED_DATA"),
    "both_forms": case(
        sharded(more={"model.safetensors": tensors({"a": A, "b": B + 1})}), "warn", "X_AMBIGUOUS_SET"
    ),
    "ok_both_forms": case(sharded(more={"model.safetensors": tensors({"a": A, "b": B})}), "pass"),
}  # fmt: skip

CASES = INDEXES | PATHS | SETS
