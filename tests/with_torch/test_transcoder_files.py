"""Transcoders in files: what is written, what is read back, and what is refused."""

from __future__ import annotations

import json
import os
import sys
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import unitrow  # noqa: E402
from unitrow import _native  # noqa: E402
from unitrow.errors import FormatError, LayoutError  # noqa: E402
from unitrow.transcoder import (  # noqa: E402
    JumpReLUTranscoder,
    JumpReLUTranscoderConfig,
    TopKTranscoder,
)

pytestmark = pytest.mark.torch

D_IN, D_OUT, D_SAE = 24, 40, 96
CONFIG = {"architecture": "jumprelu_transcoder", "d_in": D_IN, "d_sae": D_SAE, "d_out": D_OUT}


def transcoder(d_out=D_OUT, **fields):
    module = JumpReLUTranscoder(JumpReLUTranscoderConfig(D_IN, d_out, D_SAE, **fields))
    with torch.no_grad():
        for parameter in (module.W_enc, module.b_enc, module.b_dec, module.W_skip):
            if parameter is not None:
                parameter.normal_()
        module.threshold.uniform_(0, 0.5)
    return module.eval()


def arrays(d_out=D_OUT, *, skip=False):
    generator = np.random.default_rng(0)
    shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, d_out), "b_enc": (D_SAE,), "b_dec": (d_out,)}
    shapes |= {"W_skip": (d_out, D_IN)} if skip else {}
    found = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return found | {"threshold": generator.uniform(0, 0.5, D_SAE).astype(np.float32)}


def write(path, tensors):
    parts = [(name, "F32", list(array.shape), array.tobytes()) for name, array in tensors.items()]
    _native.write_safetensors(os.fspath(path), parts, [])


def saelens(folder, tensors, **config):
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(CONFIG | config))
    write(folder / "sae_weights.safetensors", tensors)
    return folder


def sparsify(folder, tensors, **config):
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps({"d_in": D_IN, "num_latents": D_SAE, "k": 7} | config))
    names = {"W_enc": "encoder.weight", "b_enc": "encoder.bias"}
    stored = {names.get(name, name): array for name, array in tensors.items() if name != "threshold"}
    write(folder / "sae.safetensors", stored | {"encoder.weight": np.ascontiguousarray(tensors["W_enc"].T)})
    return folder


def forward(tensors, x, active):
    """What the arrays mean, in float64."""
    wide = {name: torch.from_numpy(array).double() for name, array in tensors.items()}
    z = x.double() @ wide["W_enc"] + wide["b_enc"]
    y = active(z, wide.get("threshold")) @ wide["W_dec"] + wide["b_dec"]
    return y + x.double() @ wide["W_skip"].T if "W_skip" in wide else y


def jump(z, threshold):
    return z * (z > threshold)


def assert_computes(module, tensors, active=jump):
    x = torch.randn(64, D_IN)
    with torch.no_grad():
        torch.testing.assert_close(module(x).double(), forward(tensors, x, active), rtol=1e-5, atol=1e-4)


def equal_parameters(module, other):
    names = dict(module.named_parameters())
    assert names.keys() == dict(other.named_parameters()).keys()
    return all(
        torch.equal(tensor, other.get_parameter(name)) and tensor.dtype == other.get_parameter(name).dtype
        for name, tensor in names.items()
    )


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_round_trip_of_a_folder(tmp_path, skip, dtype):
    module = transcoder(
        skip=skip, dtype=dtype, bandwidth=0.05, ste_to_input=True, metadata={"model_name": "m"}
    )
    module.save_model(tmp_path / "new" / "folder")
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == ["cfg.json", "sae_weights.safetensors"]
    loaded = JumpReLUTranscoder.load_from_disk(tmp_path / "new" / "folder")
    assert equal_parameters(module, loaded)
    assert loaded.cfg.dtype == dtype
    assert (loaded.cfg.bandwidth, loaded.cfg.ste_to_input) == (0.05, True)
    assert loaded.cfg.metadata["model_name"] == "m"
    x = torch.randn(5, D_IN)
    assert torch.equal(loaded(x), module(x))
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    loaded.save_model(tmp_path / "again")
    for name in ("cfg.json", "sae_weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "new" / "folder" / name).read_bytes()


def test_the_folder_is_named_as_sae_lens_names_it(tmp_path):
    transcoder(skip=True).save_model(tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["architecture"] == "jumprelu_skip_transcoder"
    assert (config["d_in"], config["d_out"], config["d_sae"], config["dtype"]) == (
        D_IN,
        D_OUT,
        D_SAE,
        "float32",
    )
    assert config["apply_b_dec_to_input"] is False
    with unitrow.open(tmp_path / "sae_weights.safetensors") as checkpoint:
        assert checkpoint.layout == "saelens_transcoder"
        assert list(checkpoint["W_skip"].shape) == [D_OUT, D_IN]


@pytest.mark.parametrize("fields", [{}, {"skip": True}, {"dtype": torch.bfloat16}])
def test_unit_rows_pass_an_audit(tmp_path, fields):
    transcoder(**fields).save_model(tmp_path)
    report = unitrow.audit(str(tmp_path))
    (checkpoint,) = report.checkpoints
    assert checkpoint["verdict"] == ("unit-rounded" if fields.get("dtype") else "unit")
    assert {finding["severity"] for finding in checkpoint["findings"]} <= {"note"}
    assert report.exit_code == 0


def test_thresholds_that_the_last_step_made_negative_are_written_as_zero(tmp_path):
    module = transcoder(D_IN)
    with torch.no_grad():
        module.threshold[3] = -0.001
    module.save_model(tmp_path / "saelens")
    module.to_circuit_tracer(tmp_path / "layer_0.safetensors")
    module.to_gemma_scope(tmp_path / "params.npz")
    for path in ("saelens", "layer_0.safetensors", "params.npz"):
        assert JumpReLUTranscoder.load_from_disk(tmp_path / path).threshold[3] == 0
    assert module.threshold[3] == torch.tensor(-0.001)


def test_a_failing_write_leaves_the_old_files(tmp_path, monkeypatch):
    module = transcoder()
    module.save_model(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    module.cfg.metadata["hook_name"] = object()
    with torch.no_grad():
        module.W_enc.zero_()
    with pytest.raises(TypeError):
        module.save_model(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    del module.cfg.metadata["hook_name"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        module.save_model(tmp_path)
    assert (tmp_path / "cfg.json").read_bytes() == before["cfg.json"]
    assert sorted(before) == sorted(os.listdir(tmp_path))


def test_circuit_tracer(tmp_path):
    module = transcoder(D_IN, skip=True)
    path = tmp_path / "layer_7.safetensors"
    module.to_circuit_tracer(path)
    with unitrow.open(path) as checkpoint:
        assert checkpoint.layout == "circuit_tracer"
        assert checkpoint["W_enc"].shape == (D_SAE, D_IN)
    assert equal_parameters(module, JumpReLUTranscoder.load_from_disk(path))
    assert equal_parameters(module, JumpReLUTranscoder.load_from_disk(tmp_path))
    with pytest.raises(LayoutError, match=r"layer_8.*: d_out: circuit-tracer expects 24, found 40"):
        transcoder().to_circuit_tracer(tmp_path / "layer_8.safetensors")


def test_gemma_scope_archives(tmp_path):
    module = transcoder(dtype=torch.bfloat16)
    path = tmp_path / "params.npz"
    module.to_gemma_scope(path)
    with np.load(path, allow_pickle=False) as archive:
        stored = dict(archive)
    assert {name: array.dtype for name, array in stored.items()} == dict.fromkeys(stored, np.float32)
    assert np.array_equal(stored["W_dec"], module.W_dec.detach().float().numpy())
    loaded = JumpReLUTranscoder.load_from_disk(path)
    assert torch.equal(loaded.W_enc, module.W_enc.float())
    assert equal_parameters(module, JumpReLUTranscoder.load_from_disk(path, dtype=torch.bfloat16))
    with pytest.raises(LayoutError, match="W_skip: Gemma Scope expects none, found one"):
        transcoder(skip=True).to_gemma_scope(tmp_path / "other.npz")


def test_equal_widths_hide_no_transposition(tmp_path):
    """As many latents as activations: nothing but the layout says which axis is which."""
    module = JumpReLUTranscoder(JumpReLUTranscoderConfig(D_IN, D_IN, D_IN)).eval()
    module.save_model(tmp_path / "saelens")
    module.to_circuit_tracer(tmp_path / "layer_0.safetensors")
    module.to_gemma_scope(tmp_path / "params.npz")
    for path in ("saelens", "layer_0.safetensors", "params.npz"):
        assert equal_parameters(module, JumpReLUTranscoder.load_from_disk(tmp_path / path)), path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_by_numpy(tmp_path, save):
    tensors = arrays()
    swapped = tensors | {
        "W_dec": np.asfortranarray(tensors["W_dec"]),
        "b_enc": tensors["b_enc"].astype(">f4"),
    }
    save(tmp_path / "params.npz", **swapped)
    module = JumpReLUTranscoder.load_from_disk(tmp_path)
    assert_computes(module, tensors)
    assert all(parameter.is_contiguous() for parameter in module.parameters())
    small = {name.replace("W_", "w_"): array for name, array in tensors.items()}
    save(tmp_path / "params.npz", **small)
    assert_computes(JumpReLUTranscoder.load_from_disk(tmp_path), tensors)


@pytest.mark.parametrize("affine", [False, True])
def test_gemma_scope_2(tmp_path, affine):
    tensors = arrays(skip=affine)
    stored = {name.replace("W_", "w_"): array for name, array in tensors.items() if name != "W_skip"}
    if affine:
        stored["affine_skip_connection"] = np.ascontiguousarray(tensors["W_skip"].T)
    write(tmp_path / "params.safetensors", stored)
    config = {"architecture": "jump_relu", "affine_connection": affine, "type": "transcoder"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    module = JumpReLUTranscoder.load_from_disk(tmp_path)
    assert module.cfg.skip is affine
    assert_computes(module, tensors)


class TestSAELens:
    def test_relu_is_a_threshold_of_zero(self, tmp_path):
        tensors = arrays(skip=True)
        del tensors["threshold"]
        module = JumpReLUTranscoder.load_from_disk(saelens(tmp_path, tensors, architecture="skip_transcoder"))
        assert not module.threshold.any()
        assert_computes(module, tensors, lambda z, _: z.clamp(min=0))

    def test_a_bias_subtracted_from_the_input_moves_into_the_encoder(self, tmp_path):
        tensors = arrays(D_IN)
        folder = saelens(tmp_path, tensors, architecture="jumprelu", d_out=D_IN, apply_b_dec_to_input=True)
        shift = tensors["b_dec"].astype(np.float64) @ tensors["W_enc"].astype(np.float64)
        assert_computes(
            JumpReLUTranscoder.load_from_disk(folder), tensors | {"b_enc": tensors["b_enc"] - shift}
        )
        saelens(tmp_path, tensors, architecture="jumprelu", d_out=D_IN, apply_b_dec_to_input=False)
        assert_computes(JumpReLUTranscoder.load_from_disk(folder), tensors)

    def test_thresholds_as_logarithms(self, tmp_path):
        tensors = arrays()
        stored = tensors | {"log_threshold": np.log(tensors["threshold"])}
        del stored["threshold"]
        assert_computes(JumpReLUTranscoder.load_from_disk(saelens(tmp_path, stored)), tensors)

    def test_negative_thresholds_pass_a_relu_there(self, tmp_path):
        tensors = arrays()
        stored = tensors | {"threshold": tensors["threshold"] - 0.25}
        tensors["threshold"] = stored["threshold"].clip(min=0)
        assert_computes(JumpReLUTranscoder.load_from_disk(saelens(tmp_path, stored)), tensors)

    def test_metadata_is_kept_and_nonsense_in_ours_ignored(self, tmp_path):
        ours = {"bandwidth": "wide", "ste_to_input": 1, "version": []}
        metadata = {"hook_name": "blocks.3.ln2", "unitrow": ours, "sae_lens_version": "6.54.12"}
        module = JumpReLUTranscoder.load_from_disk(saelens(tmp_path, arrays(), metadata=metadata))
        assert module.cfg.metadata == {"hook_name": "blocks.3.ln2"}
        assert (module.cfg.bandwidth, module.cfg.ste_to_input) == (0.001, False)

    @pytest.mark.parametrize(
        ("field", "config", "change"),
        [
            ("architecture in cfg.json", {"architecture": "topk"}, {}),
            ("architecture in cfg.json", {"architecture": None}, {}),
            ("d_in in cfg.json", {"d_in": D_IN + 1}, {}),
            ("d_sae in cfg.json", {"d_sae": "many"}, {}),
            ("normalize_activations in cfg.json", {"normalize_activations": "layer_norm"}, {}),
            ("threshold", {"architecture": "transcoder"}, {}),
            ("threshold", {}, {"threshold": None}),
            ("threshold", {}, {"threshold": np.full(D_SAE, np.nan, np.float32)}),
            ("threshold", {}, {"threshold": np.ones(D_SAE + 1, np.float32)}),
            ("W_skip", {"architecture": "jumprelu_skip_transcoder"}, {}),
            ("W_skip", {}, {"W_skip": np.ones((D_OUT, D_IN), np.float32)}),
            ("W_enc", {}, {"W_enc": np.ones((D_SAE, D_IN), np.float32)}),
            ("W_dec", {}, {"W_dec": np.ones((D_SAE, D_OUT + 1), np.float32)}),
            ("W_dec", {}, {"W_dec": np.ones((D_SAE, 2, D_OUT), np.float32)}),
            ("b_dec", {}, {"b_dec": None}),
            ("b_enc", {}, {"b_enc": np.ones((1, D_SAE), np.float32)}),
            ("b_enc", {}, {"b_enc": np.ones(0, np.float32)}),
            ("tensors", {}, {"scaling_factor": np.ones(D_SAE, np.float32)}),
        ],
    )
    def test_refused(self, tmp_path, field, config, change):
        tensors = {name: array for name, array in (arrays() | change).items() if array is not None}
        folder = saelens(tmp_path, tensors, **config)
        with pytest.raises(LayoutError) as caught:
            JumpReLUTranscoder.load_from_disk(folder)
        path = tmp_path / "sae_weights.safetensors"
        assert str(caught.value).startswith(f"{path}: {field}: expected ")
        assert ", found " in str(caught.value)

    def test_configuration_absent_or_broken(self, tmp_path):
        saelens(tmp_path, arrays())
        (tmp_path / "cfg.json").write_text("{")
        with pytest.raises(FormatError, match=r"cfg\.json: "):
            JumpReLUTranscoder.load_from_disk(tmp_path)
        (tmp_path / "cfg.json").unlink()
        with pytest.raises(
            LayoutError, match=r"cfg\.json: expected it beside the weights, found no such file"
        ):
            JumpReLUTranscoder.load_from_disk(tmp_path)


class TestSparsify:
    def top(self, z, _):
        z = z.clamp(min=0)
        return z * (z >= z.topk(7, dim=-1).values[..., -1:])

    @pytest.mark.parametrize("skip", [False, True])
    def test_transcoder(self, tmp_path, skip):
        tensors = arrays(D_IN, skip=skip)
        module = TopKTranscoder.load_from_disk(sparsify(tmp_path, tensors, transcode=True))
        del tensors["threshold"]
        assert module.cfg.k == 7
        assert_computes(module, tensors, self.top)

    def test_sae(self, tmp_path):
        tensors = arrays(D_IN)
        module = TopKTranscoder.load_from_disk(sparsify(tmp_path, tensors))
        assert module.cfg.apply_b_dec_to_input
        shift = tensors["b_dec"].astype(np.float64) @ tensors["W_enc"].astype(np.float64)
        del tensors["threshold"]
        assert_computes(module, tensors | {"b_enc": tensors["b_enc"] - shift}, self.top)

    @pytest.mark.parametrize(
        ("field", "config"),
        [
            ("k", {"k": 0}),
            ("k", {"k": D_SAE + 1}),
            ("activation", {"activation": "groupmax"}),
            ("activation", {"signed": True}),
        ],
    )
    def test_refused(self, tmp_path, field, config):
        folder = sparsify(tmp_path, arrays(D_IN), **config)
        path = tmp_path / "sae.safetensors"
        with pytest.raises(LayoutError, match=rf"^{path}: {field} in cfg\.json: expected "):
            TopKTranscoder.load_from_disk(folder)

    def test_the_other_class_is_named(self, tmp_path):
        folder = sparsify(tmp_path / "topk", arrays(D_IN))
        with pytest.raises(LayoutError, match=r"found TopK \(k = 7\); load it with TopKTranscoder"):
            JumpReLUTranscoder.load_from_disk(folder)
        folder = saelens(tmp_path / "jump", arrays())
        with pytest.raises(LayoutError, match="load it with JumpReLUTranscoder"):
            TopKTranscoder.load_from_disk(folder)


class TestPaths:
    def test_absent(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            JumpReLUTranscoder.load_from_disk(tmp_path / "params.npz")

    def test_no_transcoder(self, tmp_path):
        write(tmp_path / "model.safetensors", {"lm_head.weight": np.ones((3, 4), np.float32)})
        with pytest.raises(LayoutError, match=r"files: expected one file with a transcoder, found model\.s"):
            JumpReLUTranscoder.load_from_disk(tmp_path)
        with pytest.raises(LayoutError, match=r"model\.safetensors: layout: expected one of .*, found none"):
            JumpReLUTranscoder.load_from_disk(tmp_path / "model.safetensors")

    def test_many_transcoders(self, tmp_path):
        for layer in range(2):
            transcoder(D_IN).to_circuit_tracer(tmp_path / f"layer_{layer}.safetensors")
        with pytest.raises(LayoutError, match=r"found layer_0\.safetensors, layer_1\.\w+; name the file"):
            JumpReLUTranscoder.load_from_disk(tmp_path)
        JumpReLUTranscoder.load_from_disk(tmp_path / "layer_1.safetensors")

    def test_truncated(self, tmp_path):
        transcoder().save_model(tmp_path)
        path = tmp_path / "sae_weights.safetensors"
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(FormatError, match=r"sae_weights\.safetensors"):
            JumpReLUTranscoder.load_from_disk(tmp_path)

    def test_negative_thresholds_elsewhere(self, tmp_path):
        np.savez(tmp_path / "params.npz", **arrays() | {"threshold": np.full(D_SAE, -0.5, np.float32)})
        with pytest.raises(LayoutError, match=r"threshold: expected 0 or positive numbers, found -0\.5"):
            JumpReLUTranscoder.load_from_disk(tmp_path)

    def test_a_relative_name(self, tmp_path, monkeypatch):
        transcoder().save_model(tmp_path)
        monkeypatch.chdir(tmp_path)
        for path in (".", "sae_weights.safetensors"):
            assert JumpReLUTranscoder.load_from_disk(path).cfg.d_sae == D_SAE


class TestHub:
    def test_without_its_client(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(ImportError, match="pip install"):
            JumpReLUTranscoder.from_pretrained("some/transcoders")

    @pytest.fixture
    def hub(self, tmp_path, monkeypatch):
        """A client whose cache holds one folder; remembers what it was asked for."""
        asked = []

        def snapshot_download(*arguments, **options):
            asked.append((arguments, options))
            return os.fspath(tmp_path)

        client = types.SimpleNamespace(snapshot_download=snapshot_download)
        monkeypatch.setitem(sys.modules, "huggingface_hub", client)
        (tmp_path / "layer_0").mkdir()
        transcoder().save_model(tmp_path / "layer_0")
        return asked

    def test_a_folder(self, hub):
        module = JumpReLUTranscoder.from_pretrained(
            "some/transcoders", "layer_0", revision="v1", cache_dir="c"
        )
        assert module.cfg.d_out == D_OUT
        ((arguments, options),) = hub
        assert arguments == ("some/transcoders",)
        assert (options["revision"], options["cache_dir"]) == ("v1", "c")
        assert options["allow_patterns"] == ["layer_0", "layer_0/*", "cfg.json", "config.json"]

    def test_a_file_brings_its_configuration(self, hub):
        JumpReLUTranscoder.from_pretrained("some/transcoders", "layer_0/sae_weights.safetensors")
        ((_, options),) = hub
        assert "layer_0/cfg.json" in options["allow_patterns"]

    def test_names_are_no_patterns(self, tmp_path, hub):
        transcoder().save_model(tmp_path / "width[16k]")
        JumpReLUTranscoder.from_pretrained("some/transcoders", "width[16k]/")
        ((_, options),) = hub
        assert options["allow_patterns"][:2] == ["width[[]16k]", "width[[]16k]/*"]

    def test_absent(self, hub):
        with pytest.raises(FileNotFoundError, match="some/transcoders has no 'layer_1'"):
            JumpReLUTranscoder.from_pretrained("some/transcoders", "layer_1")
        assert len(hub) == 1
