"""Damage that leaves a decoder whole: the file fails and has no verdict; rows that are there are measured."""

import json

import numpy as np
import pytest

import unitrow as ur
from checkpoints import saelens_arrays, safetensors_bytes, unit_rows

ROWS, LEN = 64, 24
DECODER = unit_rows(ROWS, LEN)


def stored(first):
    """A transcoder with this tensor first in its data, so that cutting the end damages another."""
    arrays = saelens_arrays(DECODER)
    return safetensors_bytes({first: arrays.pop(first), **arrays})


def audited(folder, data):
    (folder / "model.safetensors").write_bytes(data)
    report = ur.audit(folder)
    (one,) = report.checkpoints
    assert (report.exit_code, one["integrity"]) == (1, "fail")
    return one


def test_bytes_behind_a_sound_file_leave_its_figures(tmp_path):
    one = audited(tmp_path, stored("W_dec") + b"\0")
    assert one["verdict"] == "undecided"
    assert one["explanation"].endswith("if only the end is damaged, the rows are unit.")
    assert one["decoders"][0]["norms"]["max_abs_deviation"] < 1e-6


@pytest.mark.parametrize("missing", [1, 7, 4 * ROWS])
def test_a_cut_behind_the_decoder_leaves_its_figures_and_its_axis(tmp_path, missing):
    """The header tells the shapes of what is lost, so that layout and axis are those of the whole file."""
    whole = stored("W_dec")
    plain = audited(tmp_path, whole + b"\0")
    one = audited(tmp_path, whole[:-missing])
    assert (one["verdict"], one["layout"]) == ("undecided", plain["layout"])
    for name in ("norms", "latent_axis", "shape"):
        assert one["decoders"][0][name] == plain["decoders"][0][name]
    assert [found["code"] for found in one["findings"] if found["severity"] == "fail"] == [
        "ST_TRUNCATED_DATA"
    ]


@pytest.mark.parametrize("options", [{"fail_on": "never"}, {"ignore": ["ST_"]}, {"select": ["N_"]}])
def test_what_was_not_read_is_not_passed_over_by_options(tmp_path, options):
    """The exit code once was 0 here: the threshold is cut off, and the decoder before it is unit."""
    (tmp_path / "model.safetensors").write_bytes(stored("W_dec")[:-1])
    assert ur.audit(tmp_path, **options).exit_code == 3


def test_bytes_lost_in_the_middle_tell_no_history(tmp_path):
    """The rest then lies elsewhere than the header says; rows so shifted looked as if they had drifted."""
    arrays = saelens_arrays(DECODER)
    encoder = arrays.pop("W_enc")
    whole = safetensors_bytes({"W_enc": encoder, **arrays})
    one = audited(tmp_path, whole[:-8000] + whole[-7900:])
    assert one["verdict"] == "undecided"
    assert not [found for found in one["findings"] if found["code"].startswith("N_")]


@pytest.mark.parametrize("missing", [1, 4 * ROWS * LEN])
def test_a_decoder_that_is_cut_is_not_judged_and_not_called_absent(tmp_path, missing):
    arrays = saelens_arrays(DECODER)
    last = arrays.pop("W_dec")
    one = audited(tmp_path, safetensors_bytes({**arrays, "W_dec": last})[:-missing])
    assert (one["verdict"], one["decoders"][0]["norms"]) == ("undecided", None)
    assert "bytes are missing" in one["explanation"]
    assert "L_NO_DECODER" not in {found["code"] for found in one["findings"]}


def test_one_of_two_decoders_lost_is_not_decided(tmp_path):
    """A verdict on the decoders that are left would be read as one on all."""
    arrays = {f"layers.{site}.W_dec": DECODER + np.float32(0) for site in range(2)}
    whole = safetensors_bytes(
        {"b_enc": np.ones(ROWS, np.float32), "b_dec": np.ones(LEN, np.float32), **arrays}
    )
    one = audited(tmp_path, whole[:-1])
    assert one["verdict"] == "undecided"


@pytest.mark.parametrize("damage", [lambda data: data[:9] + b"x" + data[10:], lambda data: data[:64]])
def test_a_header_that_is_damaged_leaves_nothing(tmp_path, damage):
    one = audited(tmp_path, damage(stored("W_dec")))
    assert (one["verdict"], one["decoders"]) == ("undecided", [])


def test_values_of_what_is_whole_are_looked_at(tmp_path):
    arrays = saelens_arrays(DECODER)
    arrays["W_enc"][3, 5] = np.nan
    encoder = arrays.pop("W_enc")
    one = audited(tmp_path, safetensors_bytes({"W_enc": encoder, **arrays})[:-1])
    assert {"V_NAN", "ST_TRUNCATED_DATA"} <= {found["code"] for found in one["findings"]}


def float8_ones(path, shapes):
    """A safetensors file of ones in the smallest dtype that has norms."""
    entries, at = {}, 0
    for name, shape in shapes.items():
        end = at + int(np.prod(shape))
        entries[name] = {"dtype": "F8_E4M3", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(b"\x38" * at)


@pytest.mark.parametrize(
    ("rows", "length", "why"), [(2**24 + 1, 2, "16,777,216 rows"), (2, 2**22 + 1, "longer than 4 MiB")]
)
def test_rows_beyond_any_decoder_s_are_undecided_and_not_collected(tmp_path, rows, length, why):
    float8_ones(tmp_path / "x.safetensors", {"W_dec": (rows, length), "b_enc": (rows,), "b_dec": (length,)})
    report = ur.audit(tmp_path)
    (one,) = report.checkpoints
    assert (report.exit_code, one["verdict"]) == (3, "undecided")
    assert why in one["explanation"]
