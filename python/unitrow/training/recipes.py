"""Published recipes as constants. docs/training.md has their sources."""

from __future__ import annotations

from typing import Any

from unitrow.errors import ConfigError

_GEMMA_SCOPE: dict[str, Any] = {
    "batch_size": 4096,
    "init": "he",
    "tied_init": False,
    "bandwidth": 0.001,
    "threshold_init": 0.001,
    "threshold": "raw",
    "ste_to_input": False,
    "decoder": "unit",
    "scaling": "input-rms",
    "scaled_to": "unit-square-norm",
    "lr": 7e-5,
    "betas": (0.0, 0.999),
    "adam_eps": 1e-8,
    "lr_warmup_steps": 1000,
    "lr_warmup_from": 0.1,
    "lr_warmup": "cosine",
    "lr_decay": 0.0,
    "sparsity": "l0",
    "sparsity_warmup_steps": 10_000,
}

_GEMMA_SCOPE_2: dict[str, Any] = {
    **_GEMMA_SCOPE,
    "sparsity": "target-l0",
    "target_l0_over": "token",
    "sparsity_warmup_steps": 50_000,
    "frequency_limit": 0.1,
}

_ANTHROPIC: dict[str, Any] = {
    "batch_size": 32_768,
    "init": "narrow",
    "initial_l0": 10_000.0,
    "bandwidth": 2.0,
    "threshold_init": 0.1,
    "threshold": "log",
    "ste_to_input": True,
    "decoder": "free",
    "scaling": "separate",
    "scaled_to": "mean-norm-sqrt-width",
    "lr": 2e-4,
    "betas": (0.9, 0.999),
    "lr_warmup_steps": 0,
    "lr_decay": 0.2,
    "clip_norm": 1.0,
    "sparsity": "tanh",
    "tanh_scale": 4.0,
    "preact_coefficient": 3e-6,
}

# For a few hundred steps on activations of one small model: no published recipe gets anywhere in so few.
# docs/training.md says what each part is for.
_DEMO: dict[str, Any] = {
    "batch_size": 2048,
    "init": "matched",
    "standardize_inputs": True,
    "scaling": "separate",
    "scaled_to": "unit-rms",
    "lr": 8e-3,
    "decoder_lr_factor": 3.0,
    "betas": (0.9, 0.98),
    "lr_warmup_steps": 20,
    "lr_warmup_from": 0.05,
    "lr_warmup": "linear",
    "lr_decay": 0.8,
    "topk_steps": 50,
    "topk": 32.0,
    "bandwidth_of_threshold": 0.6,
    "ste_to_input": True,
    "sparsity": "l0-control",
    "target_l0": 32.0,
    "sparsity_coefficient": 0.4,
    "control_gain": 5.0,
    "control_rate": 0.1,
    "calibrate_batches": 8,
}

_CONSTANTS = {
    "gemma-scope": _GEMMA_SCOPE,
    "gemma-scope-2": _GEMMA_SCOPE_2,
    "anthropic-jan-2025": _ANTHROPIC,
    "demo": _DEMO,
}

# What a report swept, or tells for its own models alone: there is no value to take over.
_LEFT_OPEN = {
    "gemma-scope": ("steps", "sparsity_coefficient"),
    "gemma-scope-2": ("steps", "sparsity_coefficient", "target_l0"),
    "anthropic-jan-2025": ("steps", "sparsity_coefficient"),
    "demo": (),
}


def names() -> list[str]:
    """Names of the recipes."""
    return list(_CONSTANTS)


def constants(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The fields that a recipe sets.

    Args:
        name: The recipe.
        given: The fields that the caller sets.

    Raises:
        ConfigError: No such recipe, or a field is missing that it leaves open.
    """
    if name not in _CONSTANTS:
        raise ConfigError(f"recipe must be one of {', '.join(_CONSTANTS)}, and is {name!r}")
    for field in _LEFT_OPEN[name]:
        if field not in given:
            raise ConfigError(f"{field} must be given: recipe {name} has no one value for it")
    values = dict(_CONSTANTS[name])
    if name == "anthropic-jan-2025":
        values["sparsity_warmup_steps"] = given["steps"]  # over the whole run
    if name == "demo":
        values.setdefault("steps", 400)
    return values
