"""`unitrow.open`: mapped, read-only, nothing copied; and clear about what it cannot do."""

import numpy as np
import pytest

import unitrow as ur
from checkpoints import saelens_arrays, safetensors_bytes, to_bf16, unit_rows, write_saelens
from unitrow import _native
from unitrow.reading import small_float_values


@pytest.fixture
def file(tmp_path):
    return write_saelens(tmp_path, unit_rows(256, 48)) / "sae_weights.safetensors"


def test_tensors_are_read_only_views_with_the_bytes_of_the_file(file):
    with ur.open(file) as checkpoint:
        assert checkpoint.keys() == ["W_dec", "W_enc", "b_dec", "b_enc", "threshold"]
        assert (len(checkpoint), "W_dec" in checkpoint, "x" in checkpoint) == (5, True, False)
        array = checkpoint["W_dec"].numpy()
        assert not array.flags.writeable
        assert not array.flags.owndata
        np.testing.assert_array_equal(array, unit_rows(256, 48))
        with pytest.raises(KeyError):
            checkpoint["x"]


def test_an_array_outlives_its_checkpoint(file):
    with ur.open(file) as checkpoint:
        array = checkpoint["W_dec"].numpy()
    assert array.sum() == unit_rows(256, 48).sum()
    with pytest.raises(ValueError, match="closed"):
        checkpoint["W_dec"]


def test_layout_decoders_and_norms(file):
    with ur.open(file) as checkpoint:
        assert checkpoint.layout == "saelens_transcoder"
        (decoder,) = checkpoint.decoders
        assert (decoder.tensor, decoder.latent_axis, decoder.reduce_axis) == ("W_dec", 0, 1)
        expected = np.linalg.norm(unit_rows(256, 48).astype(np.float64), axis=1)
        np.testing.assert_allclose(decoder.row_norms(), expected, rtol=1e-15)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("transpose", [False, True])
def test_norms_of_any_orientation_and_order(tmp_path, order, transpose):
    decoder = np.random.default_rng(0).normal(size=(61, 17)).astype(np.float32)
    stored = np.array(decoder.T if transpose else decoder, order=order)
    np.savez(tmp_path / "x.npz", W_dec=stored, b_enc=np.ones(61), b_dec=np.ones(17))
    with ur.open(tmp_path / "x.npz") as checkpoint:
        expected = np.linalg.norm(decoder.astype(np.float64), axis=1)
        np.testing.assert_allclose(checkpoint.decoders[0].row_norms(), expected, rtol=1e-15)
        np.testing.assert_array_equal(checkpoint["W_dec"].numpy(), stored)


def test_compressed_and_big_endian_arrays(tmp_path):
    array = np.arange(12, dtype=">f4").reshape(3, 4)
    np.savez_compressed(tmp_path / "x.npz", x=array)
    np.save(tmp_path / "y.npy", array)
    for name in ("x.npz", "y.npy"):
        with ur.open(tmp_path / name) as checkpoint:
            (key,) = checkpoint.keys()
            np.testing.assert_array_equal(checkpoint[key].numpy(), array)


def test_bf16_widens_exactly_and_numpy_is_told_what_is_missing(tmp_path):
    bits = to_bf16(unit_rows(16, 8))
    arrays = {**saelens_arrays(unit_rows(16, 8)), "W_dec": bits}
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(arrays, bf16={"W_dec"}))
    with ur.open(tmp_path / "x.safetensors") as checkpoint:
        tensor = checkpoint["W_dec"]
        assert (tensor.dtype, tensor.shape) == ("BF16", (16, 8))
        np.testing.assert_array_equal(tensor.to_float32(), (bits.astype(np.uint32) << 16).view(np.float32))
        try:
            import ml_dtypes
        except ImportError:
            with pytest.raises(TypeError, match="ml_dtypes"):
                tensor.numpy()
        else:
            assert tensor.numpy().dtype == ml_dtypes.bfloat16


def test_small_floats_have_the_values_of_their_formats():
    e4m3 = small_float_values(4, 3, 7, "fn")
    assert (e4m3[0x7E], e4m3[0x01], e4m3[0x38], e4m3[0xB8]) == (448.0, 2.0**-9, 1.0, -1.0)
    assert np.isnan(e4m3[[0x7F, 0xFF]]).all()
    assert np.isfinite(np.delete(e4m3, [0x7F, 0xFF])).all()
    e5m2 = small_float_values(5, 2, 15, "ieee")
    assert (e5m2[0x7B], e5m2[0x01], e5m2[0x7C], e5m2[0xFC]) == (57344.0, 2.0**-16, np.inf, -np.inf)
    assert np.isnan(e5m2[[0x7D, 0x7E, 0x7F]]).all()
    fnuz = small_float_values(4, 3, 8, "fnuz")
    assert (fnuz[0x7F], fnuz[0x01]) == (240.0, 2.0**-10)
    assert np.isnan(fnuz[0x80])


def test_errors_name_the_path_and_keep_their_kind(tmp_path):
    with pytest.raises(FileNotFoundError) as missing:
        ur.open(tmp_path / "nowhere.safetensors")
    assert missing.value.filename == str(tmp_path / "nowhere.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0[]")
    with pytest.raises(ur.FormatError, match=r"bad\.safetensors: ST_HEADER_NOT_OBJECT at byte 8"):
        ur.open(tmp_path / "bad.safetensors")


def test_a_decoder_without_an_axis_says_why(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes({"W_dec": unit_rows(32, 32)}))
    with ur.open(tmp_path / "x.safetensors") as checkpoint, pytest.raises(ur.LayoutError, match="W_dec"):
        checkpoint.decoders[0].row_norms()


def test_more_empty_rows_than_there_is_memory_for(tmp_path):
    # A header of a few bytes can promise any number of rows without elements.
    path = tmp_path / "x.safetensors"
    header = b'{"W_dec":{"dtype":"F32","shape":[288230376151711744,0],"data_offsets":[0,0]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(MemoryError, match="288230376151711744 numbers"):
        _native.MappedFile(path).row_norms(0, 1)
