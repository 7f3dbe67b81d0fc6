"""Checkpoints of several files under an index: one entry in the report, judged by all of its tensors."""

import json

import numpy as np

import unitrow as ur
from checkpoints import saelens_arrays, safetensors_bytes, unit_rows

INDEX = "model.safetensors.index.json"


def write_sharded(folder, *, claimed=None):
    """A SAELens decoder in one shard and the rest in another."""
    arrays = saelens_arrays(unit_rows(256, 48))
    shards = [{"W_dec": arrays["W_dec"], "b_enc": arrays["b_enc"]}, {"W_enc": arrays["W_enc"]}]
    names = [f"model-{number:05}-of-00002.safetensors" for number in (1, 2)]
    for name, shard in zip(names, shards, strict=True):
        (folder / name).write_bytes(safetensors_bytes(shard))
    weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    size = sum(array.nbytes for shard in shards for array in shard.values())
    index = {"metadata": {"total_size": size}, "weight_map": claimed or weight_map}
    (folder / INDEX).write_text(json.dumps(index))
    return names


def test_a_set_is_one_checkpoint_under_the_name_of_its_index(tmp_path):
    names = write_sharded(tmp_path)
    (tmp_path / "other.safetensors").write_bytes(safetensors_bytes(saelens_arrays(unit_rows(64, 8))))
    report = ur.audit(tmp_path)
    assert [one["path"] for one in report.checkpoints] == [INDEX, "other.safetensors"]
    whole = report.checkpoints[0]
    assert (whole["verdict"], whole["integrity"]) == ("unit", "pass")
    assert [decoder["file"] for decoder in whole["decoders"]] == [names[0]]


def test_an_index_as_argument_audits_its_set_alone(tmp_path):
    write_sharded(tmp_path)
    (tmp_path / "other.safetensors").write_bytes(safetensors_bytes(saelens_arrays(unit_rows(64, 8))))
    (one,) = ur.audit(tmp_path / INDEX).checkpoints
    assert (one["path"], one["verdict"]) == (INDEX, "unit")


def test_values_of_every_shard_are_looked_at(tmp_path):
    names = write_sharded(tmp_path)
    data = bytearray((tmp_path / names[1]).read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    (tmp_path / names[1]).write_bytes(data)
    (one,) = ur.audit(tmp_path).checkpoints
    assert [(f["code"], f["file"]) for f in one["findings"] if f["severity"] == "fail"] == [
        ("V_NAN", names[1])
    ]


def test_an_index_that_cannot_be_read_is_not_passed_over(tmp_path):
    (tmp_path / INDEX).symlink_to("gone")
    report = ur.audit(tmp_path)
    assert [f["code"] for f in report.checkpoints[0]["findings"]] == ["FS_BROKEN_LINK"]
    assert report.exit_code == 3
