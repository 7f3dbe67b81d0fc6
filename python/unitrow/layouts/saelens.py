"""SAELens: `cfg.json` beside `sae_weights.safetensors`.

Format: `SAE.save_model` of sae-lens 2 to 6. Configurations before 6.0 are flat and may lack
`architecture`; later ones keep versions and hook names under `metadata`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unitrow.layouts.config import as_text, excerpt
from unitrow.layouts.entry import Judgement, Layout, config_sizes
from unitrow.layouts.saelens_training import TOP_K_FAMILY, expectation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrow.layouts.axis import Length
    from unitrow.layouts.config import Config
    from unitrow.layouts.source import Source

_WEIGHTS = re.compile(r"sae_weights\.safetensors")
_MATRIX = 2

_SHAPES: Mapping[str, str] = {
    "W_enc": "d_in d_sae",
    "W_dec": "d_sae d_out",
    "b_enc": "d_sae",
    "b_dec": "d_out",
    "threshold": "d_sae",
    "log_threshold": "d_sae",
    "b_gate": "d_sae",
    "b_mag": "d_sae",
    "r_mag": "d_sae",
    "scaling_factor": "d_sae",
    "W_skip": "d_out d_in",
}

_ENCODER_BIAS = (("b_enc",),)
_THRESHOLD = (("threshold", "log_threshold"),)
_REQUIRED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "standard": (("W_enc",), *_ENCODER_BIAS),
    "topk": (("W_enc",), *_ENCODER_BIAS),
    "batchtopk": (("W_enc",), *_ENCODER_BIAS),
    "abstopk": (("W_enc",), *_ENCODER_BIAS),
    "matryoshka_batchtopk": (("W_enc",), *_ENCODER_BIAS),
    "gated": (("W_enc",), ("b_gate",), ("b_mag",), ("r_mag",)),
    "jumprelu": (("W_enc",), *_ENCODER_BIAS, *_THRESHOLD),
    "transcoder": (("W_enc",), *_ENCODER_BIAS),
    "skip_transcoder": (("W_enc",), *_ENCODER_BIAS, ("W_skip",)),
    "jumprelu_transcoder": (("W_enc",), *_ENCODER_BIAS, *_THRESHOLD),
    "jumprelu_skip_transcoder": (("W_enc",), *_ENCODER_BIAS, *_THRESHOLD, ("W_skip",)),
    "temporal": (),  # the encoder may be tied
    "matching_pursuit": (),  # the encoder is the decoder transposed
}
"""Tensors that each architecture has beyond `W_dec` and `b_dec`; of alternatives one suffices."""

_DTYPES: Mapping[str, str] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
}

_OTHER_DECODERS = ("decoder.weight", "W_D")
_LATENT_VECTORS = ("b_enc", "threshold", "log_threshold", "b_gate")


def _is_transcoder(source: Source, named: bool) -> bool:
    architecture = _architecture(source.around.json("cfg.json")) if named else None
    if architecture is not None:
        return "transcoder" in architecture
    if source.has("W_skip"):
        return True
    read = source.other_extent("W_enc", _latents(source))
    return read is not None and source.length("b_dec") not in {read, None}


def _latents(source: Source) -> int | None:
    return next((length.value for length in source.lengths(_LATENT_VECTORS)), None)


def _architecture(config: Config) -> str | None:
    """Return the architecture in the names of 6.0, None when the configuration cannot say."""
    architecture = as_text(config.values.get("architecture"))
    if architecture is None or architecture == "standard":
        activation = as_text(config.values.get("activation_fn_str", config.values.get("activation_fn")))
        if activation == "topk":
            return "topk"
    if architecture is None and "d_sae" in config.values:
        return "standard"  # what releases before the key wrote
    return architecture


def _recognise(source: Source, named: bool) -> str | None:
    if named:
        config = source.around.json("cfg.json")
        if source.has("W_dec"):
            beside = "" if config.present else ", without the cfg.json that belongs beside it"
            return f"sae_weights.safetensors with W_dec{beside}"
        claimed = "architecture" in config.values or "d_sae" in config.values
        if claimed and not any(source.has(name) for name in _OTHER_DECODERS):
            return "sae_weights.safetensors beside a cfg.json of sae-lens"
        return None
    if not source.has("W_enc", "W_dec", "b_dec") or _latents(source) is None:
        return None
    shape = source.shape("W_dec")
    if shape is None or len(shape) != _MATRIX:
        return None
    return "the tensor names of sae-lens, under another file name than it writes"


def _recognise_transcoder(source: Source, named: bool) -> str | None:
    why = _recognise(source, named)
    if why is None or not _is_transcoder(source, named):
        return None
    return f"{why}, and a transcoder by its architecture or shapes"


def _judge(source: Source, named: bool) -> Judgement:
    config = source.around.json("cfg.json")
    if not named:
        # It may describe another file, so it does not judge this one; but a broken one is never passed over.
        source.check_config(config)
        return Judgement("unknown", "no configuration says which trainer made these weights")
    runner = source.around.json("runner_cfg.json")
    source.check_config(config)
    architecture = _architecture(config)
    if "architecture" in config.values and as_text(config.values["architecture"]) is None:
        source.mismatch(
            f"cfg.json gives architecture as {excerpt(config.values['architecture'])}",
            file=config.name,
            expected="the name of an architecture",
            found=excerpt(config.values["architecture"]),
        )
    expected = expectation(config, runner, architecture)
    dtype = as_text(config.values.get("dtype"))
    return Judgement(
        expected=expected.expected,
        expected_why=expected.why,
        order_explains_drift=expected.order_explains_drift,
        sizes=_sizes(source, config, architecture),
        required=(("W_dec",), ("b_dec",), *_REQUIRED.get(architecture or "", ())),
        required_why=f"architecture {architecture}" if architecture in _REQUIRED else "this layout",
        unwanted=_unwanted(architecture),
        dtype=_DTYPES.get(dtype.removeprefix("torch.")) if dtype is not None else None,
        dtype_why=f"cfg.json says dtype {excerpt(dtype)}",
        zero_allowed=("W_skip",),  # the skip connection starts at zero
        threshold="threshold" if architecture not in TOP_K_FAMILY else None,
    )


def _sizes(source: Source, config: Config, architecture: str | None) -> dict[str, Length]:
    sizes = config_sizes(source, config, {"d_in": "d_in", "d_sae": "d_sae"})
    if architecture is not None and "transcoder" in architecture:
        return sizes | config_sizes(source, config, {"d_out": "d_out"})
    if "d_in" in sizes:
        sizes["d_out"] = sizes["d_in"]
    return sizes


def _unwanted(architecture: str | None) -> dict[str, str]:
    if architecture is None or architecture not in _REQUIRED:
        return {}
    reason = f"cfg.json says architecture {architecture}"
    unwanted = {} if "skip" in architecture else {"W_skip": reason}
    if "jumprelu" not in architecture and architecture not in TOP_K_FAMILY:
        unwanted["threshold"] = reason
    return unwanted


_SIDE_FILES = (
    "cfg.json",
    "runner_cfg.json",
    "sparsity.safetensors",
    "activation_scaler.json",
    "activation_whitening.safetensors",
    "activations_store_state.safetensors",
    "trainer_state.pt",
)

SAELENS = Layout(
    id="saelens",
    title="SAELens SAE",
    is_folder=True,
    weights=_WEIGHTS,
    decoder="W_dec",
    shapes=_SHAPES,
    recognise=_recognise,
    judge=_judge,
    side_files=_SIDE_FILES,
)

SAELENS_TRANSCODER = Layout(
    id="saelens_transcoder",
    title="SAELens transcoder",
    is_folder=True,
    weights=_WEIGHTS,
    decoder="W_dec",
    shapes=_SHAPES,
    recognise=_recognise_transcoder,
    judge=_judge,
    side_files=_SIDE_FILES,
)

LAYOUTS = (SAELENS_TRANSCODER, SAELENS)
