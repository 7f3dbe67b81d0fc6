"""Digests: the same as those of the tools that everybody has."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest

from checkpoints import safetensors_bytes
from unitrow import _native
from unitrow.identity import hash_paths

HOSTILE = [
    b"plain",
    b"sp ace",
    b"back\\slash",
    b"new\nline",
    b"cr\rname",
    b"\xff\xfe",
    b"*star",
    b" lead",
    b"(p)",
]

SHA256SUM, B3SUM, GIT = (shutil.which(tool) for tool in ("sha256sum", "b3sum", "git"))
needs_sha256sum = pytest.mark.skipif(SHA256SUM is None, reason="no sha256sum on this machine")
needs_b3sum = pytest.mark.skipif(B3SUM is None, reason="no b3sum on this machine")
needs_git = pytest.mark.skipif(GIT is None, reason="no git on this machine")


@pytest.fixture
def hostile(tmp_path):
    """A folder of files whose names need care."""
    folder = tmp_path / "names"
    folder.mkdir()
    for number, name in enumerate(HOSTILE):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"x" * number)
    return folder


@pytest.fixture
def unitrow_bytes(tmp_path):
    """Run the command line and keep its output as bytes: names need not be text."""

    def run(*arguments, cwd=tmp_path):
        command = [sys.executable, "-m", "unitrow", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, cwd=cwd, check=True)

    return run


@pytest.mark.parametrize("tag", [[], ["--tag"]])
@needs_sha256sum
def test_lines_are_those_of_sha256sum_byte_for_byte(hostile, unitrow_bytes, tag):
    theirs = subprocess.run(
        [SHA256SUM, *tag, "--", *sorted(HOSTILE)], cwd=hostile, capture_output=True, check=True
    )
    assert unitrow_bytes("hash", hostile, *tag).stdout == theirs.stdout


@needs_sha256sum
def test_sha256sum_checks_our_lines(hostile, unitrow_bytes):
    unitrow_bytes("hash", ".", "-o", "../SUMS", cwd=hostile)
    subprocess.run([SHA256SUM, "--strict", "--quiet", "-c", "../SUMS"], cwd=hostile, check=True)


@pytest.mark.parametrize("tag", [[], ["--tag"]])
@needs_b3sum
def test_lines_are_those_of_b3sum_byte_for_byte(hostile, unitrow_bytes, tag):
    # b3sum replaces what is no Unicode in a name; we keep the bytes, so that the line can be checked.
    os.unlink(os.path.join(os.fsencode(hostile), b"\xff\xfe"))
    names = sorted(name for name in HOSTILE if name.isascii())
    theirs = subprocess.run([B3SUM, *tag, "--", *names], cwd=hostile, capture_output=True, check=True)
    assert unitrow_bytes("hash", hostile, "-a", "blake3", *tag).stdout == theirs.stdout


@pytest.mark.parametrize(
    ("length", "digest"),
    [  # BLAKE3's published test vectors: bytes 0, 1, ..., 250, 0, 1, ...
        (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        (1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"),
        (102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
    ],
)
def test_blake3_has_its_published_values(tmp_path, length, digest):
    (tmp_path / "input").write_bytes(bytes(i % 251 for i in range(length)))
    hashed = hash_paths(tmp_path, algorithm="blake3")
    assert hashed.digests == {"input": digest}


@needs_git
@pytest.mark.parametrize("data", [b"", b"hello\n", bytes(3_000_000)])
def test_git_sha1_is_what_git_calls_the_file(tmp_path, data):
    path = tmp_path / "blob"
    path.write_bytes(data)
    theirs = subprocess.run([GIT, "hash-object", "--no-filters", path], capture_output=True, check=True)
    assert hash_paths(path, algorithm="git-sha1").digests == {str(path): theirs.stdout.decode().strip()}


@pytest.mark.parametrize("length", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_several_digests_come_from_one_read(tmp_path, length):
    data = np.random.default_rng(length).bytes(length)
    (tmp_path / "data").write_bytes(data)
    [found] = _native.digest_files([(tmp_path / "data", ["sha256", "git-sha1", "blake3"], None)])
    [alone] = _native.digest_files([(tmp_path / "data", ["blake3"], None)])
    assert found["size"] == length
    assert found["digests"] == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "git-sha1": hashlib.sha1(b"blob %d\0" % length + data).hexdigest(),  # noqa: S324  (git's own)
        "blake3": alone["digests"]["blake3"],
    }


def test_the_number_of_threads_changes_nothing(tmp_path):
    for number in range(30):
        (tmp_path / f"{number}").write_bytes(np.random.default_rng(number).bytes(number * 100_000))
    results = [hash_paths(tmp_path, algorithm="blake3", jobs=jobs).digests for jobs in (1, 2, 7)]
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 30


def test_folders_are_walked_in_one_order_and_several_arguments_keep_their_names(cli, tmp_path):
    for name in ("f/b", "f/a/z", "f/.hidden", "g/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [line.split("  ")[1] for line in cli("hash", "f", check=0).stdout.splitlines()] == [
        ".hidden",
        "a/z",
        "b",
    ]
    shown = cli("hash", "f/", "g/c", check=0).stdout
    assert [line.split("  ")[1] for line in shown.splitlines()] == ["f/.hidden", "f/a/z", "f/b", "g/c"]


def test_a_folder_that_links_to_itself_ends(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(".")
    assert list(hash_paths(tmp_path).digests) == ["file"]


def test_a_manifest_in_the_folder_is_not_part_of_itself(cli, tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_text("a")
    for _ in range(2):
        cli("hash", "f", "-o", "f/SHA256SUMS", check=0)
    assert (tmp_path / "f" / "SHA256SUMS").read_text().count("\n") == 1
    assert "f/a: OK" in cli("verify", "-c", "f/SHA256SUMS", check=0).stdout


def test_what_cannot_be_read_is_named_and_exits_3(cli, tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "good").write_text("x")
    (folder / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")
    done = cli("hash", "f", check=3)
    assert [line.split("  ")[1] for line in done.stdout.splitlines()] == ["good"]
    assert "error: broken: FS_BROKEN_LINK" in done.stderr
    assert "error: fifo: FS_NOT_REGULAR" in done.stderr


def test_nothing_to_hash_exits_3_and_no_such_path_exits_2(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no file below empty" in cli("hash", "empty", check=3).stderr
    assert "path does not exist: nowhere" in cli("hash", "nowhere", check=2).stderr


def test_a_bag_has_its_payload_in_data_and_its_line_ends_encoded(cli, tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "100%\n.bin").write_bytes(b"")
    empty = hashlib.sha256(b"").hexdigest()
    assert cli("hash", "f", "--format", "bagit", check=0).stdout == f"{empty}  data/100%25%0A.bin\n"
    bag = tmp_path / "bag"
    (bag / "data").mkdir(parents=True)
    (bag / "bagit.txt").write_text("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    (bag / "data" / "x").write_bytes(b"")
    assert cli("hash", "bag", "--format", "bagit", check=0).stdout == f"{empty}  data/x\n"


def test_the_statement_is_the_one_that_model_signing_signs(cli, tmp_path):
    folder = tmp_path / "model"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref")
    (folder / "a-b").write_bytes(b"1")
    (folder / "a").mkdir()
    (folder / "a" / "c").write_bytes(b"2")
    statement = json.loads(cli("hash", "model", "--format", "model-signing", check=0).stdout)
    digests = {"a/c": hashlib.sha256(b"2"), "a-b": hashlib.sha256(b"1")}  # in the order of path components
    root = hashlib.sha256(b"".join(digest.digest() for digest in digests.values())).hexdigest()
    assert statement == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [".git", ".gitattributes", ".github", ".gitignore"],
            },
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest.hexdigest()}
                for name, digest in digests.items()
            ],
        },
    }


def test_a_manifest_that_would_leave_files_out_is_not_written(cli, tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "good").write_text("x")
    (folder / "broken").symlink_to("nowhere")
    for form in ("bagit", "model-signing"):
        done = cli("hash", "f", "--format", form, "-o", "out", check=3)
        assert "no manifest was written" in done.stderr
        assert not (tmp_path / "out").exists()
    cli("hash", "f", "--format", "bagit", "--algorithm", "blake3", check=2)
    cli("hash", "f/good", "--format", "bagit", check=2)


# The content id.


def content(*paths):
    hashed = hash_paths(*paths, algorithm="content")
    assert hashed.findings == []
    return list(hashed.digests.values())


@pytest.fixture
def arrays():
    generator = np.random.default_rng(3)
    return {
        "W_dec": generator.normal(size=(40, 24)).astype(np.float32),
        "b": generator.normal(size=24).astype(np.float32),
        "Ü": np.arange(6).reshape(1, 2, 3),
    }


def test_the_content_id_survives_order_metadata_container_and_sharding(tmp_path, arrays):
    backwards = dict(reversed(arrays.items()))
    (tmp_path / "one.safetensors").write_bytes(safetensors_bytes(arrays, {"format": "pt"}))
    (tmp_path / "two.safetensors").write_bytes(safetensors_bytes(backwards, {"z": "1", "a": "2"}))
    np.savez(tmp_path / "three.npz", **arrays)
    np.savez_compressed(tmp_path / "four.npz", **arrays)
    ids = content(tmp_path)
    assert len(ids) == 4
    assert len(set(ids)) == 1
    shards = tmp_path / "shards"
    shards.mkdir()
    for number, names in enumerate((["b"], ["Ü", "W_dec"]), 1):
        part = {name: arrays[name] for name in names}
        (shards / f"model-0000{number}-of-00002.safetensors").write_bytes(safetensors_bytes(part))
    hashed = hash_paths(shards, algorithm="content")
    assert hashed.digests == {"model-*-of-00002.safetensors": ids[0]}


@pytest.mark.parametrize("change", ["value", "name", "shape", "dtype"])
def test_the_content_id_sees_every_change_of_a_tensor(tmp_path, arrays, change):
    np.savez(tmp_path / "before.npz", **arrays)
    if change == "value":
        arrays["b"].view(np.uint32)[7] ^= 1
    elif change == "name":
        arrays["c"] = arrays.pop("b")
    elif change == "shape":
        arrays["b"] = arrays["b"].reshape(1, 24)
    else:
        arrays["b"] = arrays["b"].view(np.int32)
    np.savez(tmp_path / "after.npz", **arrays)
    assert len(set(content(tmp_path))) == 2


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_byte_order_and_fortran_order_are_normalised(tmp_path, arrays, save):
    arrays["cube"] = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    arrays["complex"] = (np.arange(6) * (1 + 2j)).astype(np.complex64).reshape(2, 3)
    np.savez(tmp_path / "plain.npz", **arrays)
    save(tmp_path / "turned.npz", **{name: np.asfortranarray(array) for name, array in arrays.items()})
    save(
        tmp_path / "big.npz",
        **{n: array.astype(array.dtype.newbyteorder(">")) for n, array in arrays.items()},
    )
    save(
        tmp_path / "both.npz",
        **{n: np.asfortranarray(a.astype(a.dtype.newbyteorder(">"))) for n, a in arrays.items()},
    )
    ids = content(tmp_path)
    assert len(ids) == 4
    assert len(set(ids)) == 1


def test_the_content_id_is_what_its_description_says(tmp_path, arrays):
    # BLAKE3 is not in the standard library; ours has its published values, see above.
    text = b"unitrow content 1\n" + struct.pack("<Q", len(arrays))
    for name, array in sorted(arrays.items(), key=lambda item: item[0].encode()):
        dtype = {"float32": b"F32", "int64": b"I64"}[array.dtype.name]
        (tmp_path / "data").write_bytes(array.tobytes())
        text += struct.pack("<Q", len(name.encode())) + name.encode() + struct.pack("<Q", 3) + dtype
        text += struct.pack(f"<{1 + array.ndim}Q", array.ndim, *array.shape)
        text += bytes.fromhex(
            hash_paths(tmp_path / "data", algorithm="blake3").digests[str(tmp_path / "data")]
        )
    (tmp_path / "text").write_bytes(text)
    expected = hash_paths(tmp_path / "text", algorithm="blake3").digests[str(tmp_path / "text")]
    np.savez(tmp_path / "arrays.npz", **arrays)
    assert content(tmp_path / "arrays.npz") == [expected]


def test_a_known_content_id_does_not_change_between_versions(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes({"W_dec": array}))
    assert content(tmp_path) == ["8d2fd8fae7e80e1fb7d59ec76db278cb9e7e0ed417f4334e5824e774760651b3"]


def test_damaged_or_incomplete_checkpoints_have_no_content_id(cli, tmp_path, arrays):
    whole = safetensors_bytes(arrays)
    (tmp_path / "cut.safetensors").write_bytes(whole[:-1])
    (tmp_path / "m-00001-of-00002.safetensors").write_bytes(whole)
    (tmp_path / "n-00001-of-00002.safetensors").write_bytes(whole)
    (tmp_path / "n-00002-of-00002.safetensors").write_bytes(whole)
    done = cli("hash", ".", "--algorithm", "content", check=3)
    assert done.stdout == ""
    for words in ("cut.safetensors: ST_TRUNCATED_DATA", "X_SHARD_MISSING", "X_DUP_TENSOR"):
        assert words in done.stderr
