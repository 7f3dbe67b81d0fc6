"""The whole audit on small checkpoints: right verdicts, right findings, nothing lost."""

import ctypes
import json
import os

import numpy as np
import pytest

import unitrow as ur
from checkpoints import saelens_arrays, safetensors_bytes, to_bf16, unit_rows, write_saelens

CHECKPOINT_FIELDS = {
    "root", "path", "container", "layout", "integrity", "verdict", "expected", "explanation",
    "decoders", "history", "findings", "digests",
}  # fmt: skip
NORM_FIELDS = {
    "min", "max", "mean", "max_abs_deviation", "mean_deviation", "max_abs_deviation_ulp",
    "torch_max_abs_deviation", "zero_rows", "nonfinite_rows", "histogram", "worst_rows",
}  # fmt: skip


def audited(path, **options):
    report = ur.audit(path, **options)
    assert len(report.checkpoints) == 1, [one["path"] for one in report.checkpoints]
    return report.checkpoints[0]


def codes(checkpoint, *severities):
    return [f["code"] for f in checkpoint["findings"] if not severities or f["severity"] in severities]


def test_the_real_transcoders_are_judged_right(examples):
    report = ur.audit(examples)
    said = {one["path"]: (one["layout"], one["verdict"], one["expected"]) for one in report.checkpoints}
    assert said == {
        "minilm-layer3-free/transcoder/layer_3_width_1k_l0_small": ("gemma_scope_2", "free", "unknown"),
        "minilm-layer3-unit": ("saelens_transcoder", "unit", "unknown"),
    }
    unit = next(one for one in report.checkpoints if one["verdict"] == "unit")
    norms = unit["decoders"][0]["norms"]
    # Known from how it was trained: an exact largest deviation of 1.30e-07.
    assert norms["max_abs_deviation"] == pytest.approx(1.30e-7, rel=5e-3)


def test_the_json_report_has_the_fields_of_the_contract(examples):
    whole = json.loads(ur.audit(examples).to_json())
    assert set(whole) == {"schema_version", "tool", "summary", "run", "checkpoints"}
    assert set(whole["summary"]) == {"checkpoints", "bytes", "by_verdict", "by_severity"}
    for checkpoint in whole["checkpoints"]:
        assert set(checkpoint) == CHECKPOINT_FIELDS
        for decoder in checkpoint["decoders"]:
            assert set(decoder) >= {
                "tensor", "file", "dtype", "shape", "latent_axis", "reduce_axis", "rows", "verdict",
                "history", "norms",
            }  # fmt: skip
            assert set(decoder["norms"]) == NORM_FIELDS
            assert set(decoder["history"]) == {"normaliser", "passes"}
            for claim in decoder["history"].values():
                assert set(claim) == {"value", "strength", "evidence"}
    assert whole["checkpoints"] == sorted(whole["checkpoints"], key=lambda one: (one["root"], one["path"]))


def test_norms_equal_the_plain_computation(tmp_path):
    decoder = np.random.default_rng(3).normal(size=(300, 40)).astype(np.float32)
    write_saelens(tmp_path, decoder)
    norms = audited(tmp_path)["decoders"][0]["norms"]
    exact = np.linalg.norm(decoder.astype(np.float64), axis=1)
    assert norms["min"] == pytest.approx(exact.min(), rel=1e-15)
    assert norms["max"] == pytest.approx(exact.max(), rel=1e-15)
    assert norms["mean"] == pytest.approx(exact.mean(), rel=1e-14)
    row, norm = norms["worst_rows"][0]
    assert row == np.abs(exact - 1).argmax()
    assert norm == pytest.approx(exact[row], rel=1e-15)


def test_the_same_rows_in_every_container_and_orientation(tmp_path):
    decoder = unit_rows(256, 48)
    arrays = saelens_arrays(decoder)
    (tmp_path / "gs").mkdir()
    np.savez(tmp_path / "gs" / "params.npz", **arrays)
    (tmp_path / "gz").mkdir()
    np.savez_compressed(tmp_path / "gz" / "params.npz", **arrays)
    (tmp_path / "fortran").mkdir()
    np.savez(tmp_path / "fortran" / "params.npz", **{k: np.asfortranarray(v) for k, v in arrays.items()})
    (tmp_path / "big").mkdir()
    np.savez(tmp_path / "big" / "params.npz", **{k: v.astype(">f4") for k, v in arrays.items()})
    write_saelens(tmp_path / "saelens", decoder)
    report = ur.audit(tmp_path)
    assert [one["verdict"] for one in report.checkpoints] == ["unit"] * 5, report.to_json()
    norms = [one["decoders"][0]["norms"] for one in report.checkpoints]
    for other in norms[1:]:
        for name in ("min", "max", "mean", "max_abs_deviation", "worst_rows"):
            assert other[name] == norms[0][name]


def test_latents_on_the_last_axis_are_found_by_the_lengths_and_measured_across(tmp_path):
    decoder = unit_rows(256, 48)
    arrays = saelens_arrays(decoder)
    arrays["W_dec"] = np.ascontiguousarray(decoder.T)
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(arrays))
    one = audited(tmp_path)
    assert (one["decoders"][0]["latent_axis"], one["verdict"]) == (1, "unit")


def test_bf16_and_its_upcast_are_unit_rounded(tmp_path):
    bits = to_bf16(unit_rows(256, 48))
    arrays = saelens_arrays(unit_rows(256, 48))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.safetensors").write_bytes(
        safetensors_bytes({**arrays, "W_dec": bits}, bf16={"W_dec"})
    )
    (tmp_path / "b").mkdir()
    upcast = (bits.astype(np.uint32) << 16).view(np.float32)
    (tmp_path / "b" / "x.safetensors").write_bytes(safetensors_bytes({**arrays, "W_dec": upcast}))
    assert [one["verdict"] for one in ur.audit(tmp_path).checkpoints] == ["unit-rounded"] * 2


def test_a_normalised_other_axis_is_wrong_axis(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(256, 48))
    decoder = (matrix / np.linalg.norm(matrix, axis=0)).astype(np.float32)
    one = audited(write_saelens(tmp_path, decoder))
    assert one["verdict"] == "wrong-axis"
    assert codes(one, "fail") == ["N_WRONG_AXIS"]


def test_uniform_rows_share_one_norm(tmp_path):
    one = audited(write_saelens(tmp_path, unit_rows(256, 48) * np.float32(0.5)))
    assert one["verdict"] == "uniform"


def test_a_square_decoder_without_other_evidence_is_undecided(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes({"W_dec": unit_rows(64, 64)}))
    report = ur.audit(tmp_path)
    assert report.checkpoints[0]["verdict"] == "undecided"
    assert report.exit_code == 3
    assert ur.audit(tmp_path, expect="any").exit_code == 0


def test_nan_in_the_decoder_fails_and_is_placed(tmp_path):
    decoder = unit_rows(256, 48)
    decoder[3, 5] = np.nan
    report = ur.audit(write_saelens(tmp_path, decoder))
    one = report.checkpoints[0]
    assert (one["verdict"], one["integrity"], report.exit_code) == ("undecided", "fail", 1)
    (finding,) = [f for f in one["findings"] if f["code"] == "V_NAN"]
    raw = (tmp_path / "sae_weights.safetensors").read_bytes()
    place = finding["byte_offset"]
    assert np.isnan(np.frombuffer(raw[place : place + 4], np.float32)[0])


def test_a_negative_threshold_is_a_warning(tmp_path):
    arrays = saelens_arrays(unit_rows(256, 48))
    arrays["threshold"][7] = -0.25
    np.savez(tmp_path / "params.npz", **arrays)
    assert codes(audited(tmp_path), "warn") == ["L_NEGATIVE_THRESHOLD"]


def test_zero_rows_are_counted_apart(tmp_path):
    decoder = unit_rows(256, 48)
    decoder[[4, 9]] = 0
    np.savez(tmp_path / "params.npz", **saelens_arrays(decoder))
    one = audited(tmp_path)
    assert one["verdict"] == "unit"
    assert one["decoders"][0]["norms"]["zero_rows"] == 2
    assert "R_ZERO_ROW" in codes(one, "warn")


def test_bad_files_among_good_ones_are_findings_and_the_good_ones_are_audited(tmp_path):
    whole = write_saelens(tmp_path / "good", unit_rows(256, 48))
    data = (whole / "sae_weights.safetensors").read_bytes()
    for name, content in {
        "truncated": data[: len(data) // 2],
        "empty": b"",
        "text": b"<!DOCTYPE html><html>404</html>",
        "foreign": b"\x89HDF\r\n\x1a\n" + bytes(100),
    }.items():
        write_saelens(tmp_path / name, unit_rows(256, 48))
        (tmp_path / name / "sae_weights.safetensors").write_bytes(content)
    (tmp_path / "dangling").mkdir()
    os.symlink("nowhere", tmp_path / "dangling" / "x.safetensors")
    (tmp_path / "fifo").mkdir()
    os.mkfifo(tmp_path / "fifo" / "x.safetensors")
    (tmp_path / "folder" / "model.safetensors").mkdir(parents=True)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "ae.pt").write_bytes(b"PK")
    report = ur.audit(tmp_path)
    said = {one["path"].split("/")[0]: (one["verdict"], one["integrity"]) for one in report.checkpoints}
    assert said == {
        "good": ("unit", "pass"),
        "truncated": ("undecided", "fail"),
        "empty": ("undecided", "fail"),
        "text": ("undecided", "fail"),
        "foreign": ("undecided", "fail"),
        "dangling": ("undecided", "unreadable"),
        "fifo": ("undecided", "unreadable"),
        "folder": ("undecided", "unreadable"),
        "torch": ("undecided", "unreadable"),
    }
    assert report.exit_code == 1


def give_up_capabilities():
    """Let a root's child obey permissions: it loses the right to read and to search everything."""
    drop_bounding, override, read_search = 24, 1, 2
    for capability in (override, read_search):
        ctypes.CDLL(None).prctl(drop_bounding, capability, 0, 0, 0)


def test_a_file_or_folder_without_permission_is_unreadable(tmp_path, cli):
    file = write_saelens(tmp_path / "file", unit_rows(256, 48)) / "sae_weights.safetensors"
    folder = write_saelens(tmp_path / "folder", unit_rows(256, 48))
    file.chmod(0)
    folder.chmod(0)
    done = cli("audit", ".", "--format", "json", preexec_fn=give_up_capabilities)
    folder.chmod(0o700)
    report = json.loads(done.stdout)
    said = {one["path"]: (codes(one), one["integrity"]) for one in report["checkpoints"]}
    assert said == {path: (["FS_PERMISSION"], "unreadable") for path in ("file", "folder")}
    assert done.returncode == 3


def test_nothing_to_audit_is_not_success(tmp_path):
    report = ur.audit(tmp_path)
    assert (report.checkpoints, report.exit_code) == ([], 3)


def test_equal_input_gives_equal_bytes_for_any_number_of_threads(examples):
    texts = {ur.audit(examples, jobs=jobs, run_info=False).to_json() for jobs in (1, 2, 5)}
    assert len(texts) == 1


def test_select_and_ignore_filter_findings(examples):
    assert codes(ur.audit(examples, select=("L_",)).checkpoints[0]) == []
    assert ur.audit(examples, expect="unit", ignore=("N_NOT_UNIT",)).exit_code == 0


def test_expect_decides_what_free_rows_mean(examples):
    free = examples / "minilm-layer3-free"
    assert ur.audit(free).exit_code == 0
    assert ur.audit(free, expect="unit").exit_code == 1
    assert ur.audit(free, expect="any").exit_code == 0
    assert ur.audit(free, expect="unit", fail_on="never").exit_code == 0


def test_free_rows_fail_where_the_publisher_says_that_rows_are_kept_unit(tmp_path):
    decoder = np.random.default_rng(0).normal(size=(256, 48)).astype(np.float32)
    folder = tmp_path / "gemma-scope-2b-pt-transcoders" / "layer_3" / "width_16k" / "average_l0_82"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **saelens_arrays(decoder))
    report = ur.audit(tmp_path)
    assert (report.checkpoints[0]["expected"], report.exit_code) == ("yes", 1)
    assert codes(report.checkpoints[0], "fail") == ["N_NOT_UNIT"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_strided_rows_have_the_norms_of_their_transpose(tmp_path, save, dtype):
    """More columns than a panel of a small dtype holds lines, more lines than are read at a time."""
    decoder = np.random.default_rng(5).normal(size=(97, 301)).astype(dtype)
    arrays = {"b_enc": np.ones(301, dtype), "b_dec": np.ones(97, dtype), "W_dec": decoder}
    save(tmp_path / "a.npz", **arrays)
    save(tmp_path / "b.npz", **{**arrays, "W_dec": np.ascontiguousarray(decoder.T)})
    strided, plain = (one["decoders"][0] for one in ur.audit(tmp_path, expect="any").checkpoints)
    assert (strided["latent_axis"], plain["latent_axis"]) == (1, 0)
    for name in ("min", "max", "mean", "max_abs_deviation", "worst_rows"):
        assert strided["norms"][name] == plain["norms"][name]


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def rewrite(path):
    data = path.read_bytes()
    path.write_bytes(data[:-4] + b"abcd")


def replace(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("meddle", [truncate, rewrite, replace])
def test_a_file_that_changes_after_its_header_was_read_is_unreadable(tmp_path, meddle):
    from unitrow import _native

    path = write_saelens(tmp_path, unit_rows(256, 48)) / "sae_weights.safetensors"
    headers = _native.read_headers([path])
    meddle(path)
    (scan,) = _native.scan([(headers[0], [(0, 1, None)], True, None)])
    assert [(f["code"], f["severity"]) for f in scan["findings"]] == [("FS_CHANGED", "unreadable")]
    assert isinstance(scan["decoders"][0], str)


def test_a_decoder_of_zeros_is_not_unit_and_says_that_it_is_zero(tmp_path):
    """sparsify starts transcoders with a decoder of zeros: a sound file, though not a trained one."""
    np.savez(tmp_path / "params.npz", **saelens_arrays(np.zeros((256, 48), np.float32)))
    one = audited(tmp_path)
    assert one["verdict"] == "free"
    assert one["explanation"].startswith("All 256 rows are zero")
    assert one["decoders"][0]["norms"]["max_abs_deviation"] is None


def test_a_trainer_state_beside_weights_is_a_side_file_not_an_unread_checkpoint(tmp_path):
    write_saelens(tmp_path, unit_rows(256, 48))
    (tmp_path / "trainer_state.pt").write_bytes(b"PK")
    report = ur.audit(tmp_path)
    assert ([one["path"] for one in report.checkpoints], report.exit_code) == (["."], 0)


def test_findings_are_ordered_by_place_and_capped_with_a_count(tmp_path):
    arrays = {f"x{index:03}": np.array([1, np.nan], np.float32) for index in range(50)}
    arrays["y"] = np.array([np.inf, np.nan], np.float32)
    np.savez(tmp_path / "x.npz", **arrays)
    findings = audited(tmp_path, expect="any")["findings"]
    nan = [finding for finding in findings if finding["code"] == "V_NAN"]
    assert (len(nan), nan[-1]["message"]) == (21, "and 31 more V_NAN")
    places = [finding["byte_offset"] for finding in findings if "byte_offset" in finding]
    assert places == sorted(places)


def test_a_side_file_that_is_no_file_costs_no_descriptor(tmp_path):
    for index in range(40):
        write_saelens(tmp_path / str(index), unit_rows(64, 8))
        (tmp_path / str(index) / "cfg.json").unlink()
        (tmp_path / str(index) / "cfg.json").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    ur.audit(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_arguments_that_mean_nothing_are_refused(tmp_path):
    for wrong in ({"expect": "bogus"}, {"fail_on": "bogus"}, {"jobs": 0}, {"select": ["V_NANN"]}):
        with pytest.raises(ValueError, match=r"expected|no finding"):
            ur.audit(tmp_path, **wrong)


def test_an_explicit_file_is_read_by_its_content(tmp_path):
    (tmp_path / "odd.bin").write_bytes(safetensors_bytes(saelens_arrays(unit_rows(256, 48))))
    assert audited(tmp_path / "odd.bin")["verdict"] == "unit"
    assert ur.audit(tmp_path).exit_code == 3


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 5000])
def test_a_broken_configuration_beside_renamed_weights_is_a_finding(tmp_path, content):
    """Only weights under sae-lens's own file name had their configuration looked at."""
    arrays = saelens_arrays(unit_rows(256, 48))
    (tmp_path / "renamed.safetensors").write_bytes(safetensors_bytes(arrays))
    assert codes(audited(tmp_path), "fail") == []
    (tmp_path / "cfg.json").write_bytes(content)
    assert codes(audited(tmp_path), "fail") == ["L_CONFIG_MISMATCH"]
