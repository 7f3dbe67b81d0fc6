"""Digests from the pass that measures: of every file, right, and the same for any number of threads."""

import hashlib
import json

import numpy as np
import pytest

import unitrow as ur
from checkpoints import saelens_arrays, safetensors_bytes, unit_rows, write_saelens
from unitrow import _native


def digest(path, algorithm):
    if algorithm == "sha256":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    (one,) = _native.digest_files([(path, [algorithm], None)])
    return one["digests"][algorithm]


def write_many(folder):
    """Files with rows that end anywhere, strided and compressed decoders, several windows long."""
    decoder = unit_rows(700, 517)
    arrays = saelens_arrays(decoder)
    write_saelens(folder / "plain", decoder)
    strided = {**arrays, "W_dec": np.ascontiguousarray(decoder.T)}
    (folder / "strided.safetensors").write_bytes(safetensors_bytes(strided))
    for name, save in (("stored", np.savez), ("deflated", np.savez_compressed)):
        (folder / name).mkdir()
        save(folder / name / "params.npz", **arrays)
    (folder / "big").mkdir()
    np.savez(folder / "big" / "params.npz", **{k: v.astype(">f4") for k, v in arrays.items()})


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_digests_stand_in_the_report_and_change_nothing_else(tmp_path, algorithm):
    write_many(tmp_path)
    plain = ur.audit(tmp_path, run_info=False)
    reports = [ur.audit(tmp_path, hash=algorithm, jobs=jobs, run_info=False) for jobs in (1, 2, 3, 8)]
    assert len({report.to_json() for report in reports}) == 1
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.[sn]*") if path.suffix != ".json"}
    seen = {}
    for without, one in zip(plain.checkpoints, reports[0].checkpoints, strict=True):
        seen |= one["digests"]
        assert without["digests"] == {}
        assert {**one, "digests": {}} == without
    assert seen == {file: {algorithm: digest(tmp_path / file, algorithm)} for file in files}


def test_a_damaged_file_has_a_digest_too(tmp_path):
    path = write_saelens(tmp_path, unit_rows(256, 48)) / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    (one,) = ur.audit(tmp_path, hash="sha256").checkpoints
    assert one["integrity"] == "fail"
    assert one["digests"] == {path.name: {"sha256": digest(path, "sha256")}}


def with_claim(path, text):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = {"data_sha256": text}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data[8 + length :])
    return hashlib.sha256(data[8 + length :]).hexdigest()


def test_a_digest_in_the_metadata_is_compared_with_the_data(tmp_path):
    path = write_saelens(tmp_path, unit_rows(300, 517)) / "sae_weights.safetensors"
    right = with_claim(path, "")
    for text, hashed, expected in (
        (right, "sha256", []),
        (right.upper(), "sha256", []),
        ("0" * 64, "sha256", ["ST_METADATA_HASH"]),
        ("0" * 64, "none", []),
        ("0" * 64, "blake3", []),
        ("no digest", "sha256", []),
    ):
        with_claim(path, text)
        findings = ur.audit(tmp_path, hash=hashed).checkpoints[0]["findings"]
        assert [f["code"] for f in findings if f["severity"] == "warn"] == expected, (text, hashed)
    with_claim(path, "0" * 64)
    (finding,) = [
        f
        for f in ur.audit(tmp_path, hash="sha256").checkpoints[0]["findings"]
        if f["code"] == "ST_METADATA_HASH"
    ]
    assert (finding["expected"], finding["found"]) == ("0" * 64, right)


def test_an_unknown_digest_is_refused(tmp_path):
    with pytest.raises(ValueError, match="sha256"):
        ur.audit(tmp_path, hash="md5")


@pytest.mark.parametrize("place", ["local", "linked", "around"])
def test_a_download_through_a_link_is_compared_with_its_metadata(tmp_path, place):
    """The metadata of `--local-dir` lies beside the file, not beside a link to it."""
    local = tmp_path / "local"
    data = safetensors_bytes(saelens_arrays(unit_rows(64, 16)))
    notes = local / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (local / "sae_weights.safetensors").write_bytes(data)
    digest_of = hashlib.sha256(data).hexdigest()
    (notes / "sae_weights.safetensors.metadata").write_text(f"{'0' * 40}\n{'1' * 64}\n1765432100.25\n")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "sae_weights.safetensors").symlink_to(local / "sae_weights.safetensors")
    (tmp_path / "around").symlink_to(local)
    (one,) = ur.audit(tmp_path / place, hash="sha256").checkpoints
    (found,) = [finding for finding in one["findings"] if finding["code"] == "H_MISMATCH"]
    assert found["message"].startswith("not the bytes that its download metadata names: expected sha256 111")
    assert found["message"].endswith(f", found sha256 {digest_of}")
