"""Mapped tensors through DLPack: no copy, and the dtypes that numpy does not have."""

import gc

import numpy as np
import pytest

import unitrow as ur
from checkpoints import safetensors_bytes, to_bf16, unit_rows

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture
def checkpoint(tmp_path):
    arrays = {"f": unit_rows(16, 8), "b": to_bf16(unit_rows(16, 8)), "i": np.arange(3), "s": np.array(2.5)}
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(arrays, bf16={"b"}))
    with ur.open(tmp_path / "x.safetensors") as opened:
        yield opened


def test_torch_sees_the_mapped_bytes(checkpoint):
    tensor = torch.from_dlpack(checkpoint["f"])
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.float32, (16, 8))
    assert tensor.data_ptr() == checkpoint["f"].numpy().ctypes.data
    np.testing.assert_array_equal(tensor.numpy(), unit_rows(16, 8))


def test_bfloat16_integers_and_scalars(checkpoint):
    brain = torch.from_dlpack(checkpoint["b"])
    assert brain.dtype == torch.bfloat16
    np.testing.assert_array_equal(brain.float().numpy(), checkpoint["b"].to_float32())
    assert torch.from_dlpack(checkpoint["i"]).tolist() == [0, 1, 2]
    assert torch.from_dlpack(checkpoint["s"]).item() == 2.5


def test_a_tensor_outlives_its_checkpoint_and_an_untaken_capsule_is_freed(checkpoint):
    tensor = torch.from_dlpack(checkpoint["f"])
    checkpoint["f"].__dlpack__(max_version=(1, 0))
    total = float(tensor.sum())
    checkpoint.close()
    gc.collect()
    assert float(tensor.sum()) == total


def test_norms_of_a_mapped_tensor_without_a_copy(checkpoint):
    expected = np.linalg.norm(checkpoint["b"].to_float32().astype(np.float64), axis=1)
    np.testing.assert_allclose(ur.row_norms(checkpoint["b"]), expected, rtol=1e-15)


def test_a_consumer_that_cannot_be_told_of_read_only_memory_is_refused(checkpoint):
    with pytest.raises(BufferError, match="read-only"):
        checkpoint["f"].__dlpack__()
    with pytest.raises(BufferError, match="CPU"):
        checkpoint["f"].__dlpack__(max_version=(1, 0), dl_device=(2, 0))


def test_in_place_work_on_mapped_memory_is_refused(checkpoint):
    with pytest.raises((ur.UnitrowError, ValueError), match="read-only"):
        ur.normalize_rows_(checkpoint["f"])
