"""Every truncation and bit flip of small files: nothing cut passes, no flip crashes or escapes a manifest."""

import hashlib

import numpy as np
import pytest
from build import Member, entry, npy, npz, st, tensors, text, weights
from index_cases import FIRST, INDEX, SECOND, A, B, index_text

from unitrow import _native
from unitrow.identity import verify

SMALL = weights(3, 2)
HEADER = {"__metadata__": {"a": "b"}, "w": entry("F32", [2, 2], [0, 16]), "b": entry("I32", [1], [16, 20])}
FILES = {
    "w.safetensors": st(HEADER, weights(2, 2).tobytes() + b"\1\2\3\4"),
    "stored.npz": npz(Member("w.npy", npy(SMALL)), Member("b.npy", npy(SMALL[0]))),
    "deflated.npz": npz(Member("w.npy", npy(np.tile(SMALL, 9)), method=8)),
    "w.npy": npy(SMALL),
}


@pytest.fixture(params=FILES.items(), ids=FILES.keys())
def container(request):
    return request.param


def flips(data):
    """The data with each of its bits flipped, one at a time."""
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def written(folder, name, variants):
    """Each variant in a file of its own, under a name that promises the container."""
    paths = []
    for index, data in enumerate(variants):
        path = folder / f"{index:06}.{name.rpartition('.')[2]}"
        path.write_bytes(data)
        paths.append(path)
    return paths


def examined(paths):
    """For each file: whether anything was found that fails, and what its header says."""
    headers = _native.read_headers(paths)
    scans = _native.scan([(header, [], True, None) for header in headers])
    for header, scan in zip(headers, scans, strict=True):
        worst = {finding["severity"] for finding in header.findings + scan["findings"]}
        yield bool(worst & {"fail", "unreadable"}), worst, (header.tensors, header.metadata)


def test_the_files_are_sound(container, tmp_path):
    name, data = container
    assert [failed for failed, *_ in examined(written(tmp_path, name, [data]))] == [False]


def test_every_truncation_is_rejected(container, tmp_path):
    name, data = container
    prefixes = [data[:length] for length in range(len(data))]
    passed = [at for at, (failed, *_) in enumerate(examined(written(tmp_path, name, prefixes))) if not failed]
    assert passed == []


def test_every_bit_flip_is_read_and_found_with_a_manifest(container, tmp_path):
    name, data = container
    paths = written(tmp_path, name, flips(data))
    assert len(list(examined(paths))) == 8 * len(data)
    digest = hashlib.sha256(data).hexdigest()
    manifest = tmp_path / "SHA256SUMS"
    manifest.write_text("".join(f"{digest}  {path.name}\n" for path in paths))
    assert verify(tmp_path, manifest=manifest).counts == {"mismatch": len(paths)}


def test_a_flip_in_a_header_is_reported_or_changes_what_the_header_says(tmp_path):
    name, data = "w.safetensors", FILES["w.safetensors"]
    length = 8 + len(text(HEADER))
    (plain,) = examined(written(tmp_path, name, [data]))
    silent = [
        bit
        for bit, (failed, worst, said) in enumerate(examined(written(tmp_path, name, flips(data))))
        if bit < 8 * length and not failed and not worst and said == plain[2]
    ]
    assert silent == []


@pytest.mark.parametrize("variants", ["truncations", "flips"])
def test_a_damaged_index_is_rejected_or_says_something_else(tmp_path, variants):
    (tmp_path / FIRST).write_bytes(tensors({"a": A}))
    (tmp_path / SECOND).write_bytes(tensors({"b": B}))
    headers = _native.read_headers([tmp_path / FIRST, tmp_path / SECOND])
    whole = index_text()
    path = tmp_path / INDEX
    passed = []
    damaged = flips(whole) if variants == "flips" else (whole[:length] for length in range(len(whole)))
    for number, data in enumerate(damaged):
        path.write_bytes(data)
        if not _native.check_index(path, headers)["findings"]:
            passed.append(number)
    assert passed == []
