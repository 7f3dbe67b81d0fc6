"""The configuration of a transcoder."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from unitrow.errors import ConfigError
from unitrow.transcoder.checks import check_dtype, check_sizes

__all__ = ["JumpReLUTranscoderConfig", "TopKTranscoderConfig"]


@dataclass
class JumpReLUTranscoderConfig:
    """What a `JumpReLUTranscoder` is made of.

    Raises:
        ConfigError: A field is out of range, or contradicts another.
    """

    d_in: int
    """Width of the activations that are read."""

    d_out: int
    """Width of the activations that are written; `d_in` where a site is to reproduce itself, as in an SAE."""

    d_sae: int
    """Number of latents."""

    bandwidth: float = 0.001
    """Width of the window around the threshold in which the straight-through estimators see a gradient.

    In units of pre-activations. The default and that of `threshold_init` are Gemma Scope's, for inputs whose
    squared norm is 1 on average; training on little data needs larger ones.
    """

    threshold_init: float = 0.001
    """Initial threshold of every latent."""

    skip: bool = False
    """Whether the input also reaches the output through a matrix `W_skip`, zero at first."""

    tied_init: bool = False
    """Whether `W_enc` starts as `W_dec` transposed: Gemma Scope's SAEs do so, its transcoders do not."""

    ste_to_input: bool = False
    """Whether the estimators' gradient also reaches the pre-activations, and so the encoder.

    False is the published JumpReLU, True is Anthropic's variant of January 2025.
    """

    dtype: torch.dtype = torch.float32
    """Type of all parameters but `threshold`, which is never narrower than float32."""

    metadata: dict[str, Any] = field(default_factory=dict)
    """What other tools should know, such as `model_name`, `hook_name` and `hook_name_out`.

    JSON values; `save_model` writes them under `metadata` of `cfg.json`.
    """

    def __post_init__(self) -> None:
        check_sizes(self, "d_in", "d_out", "d_sae")
        if not (math.isfinite(self.bandwidth) and self.bandwidth > 0):
            raise ConfigError(f"bandwidth must be a positive number, and is {self.bandwidth}")
        if not (math.isfinite(self.threshold_init) and self.threshold_init >= 0):
            raise ConfigError(f"threshold_init must be 0 or a positive number, and is {self.threshold_init}")
        if self.tied_init and self.d_in != self.d_out:
            raise ConfigError(f"tied_init needs d_in = d_out, and they are {self.d_in} and {self.d_out}")
        check_dtype(self.dtype)


@dataclass
class TopKTranscoderConfig:
    """What a `TopKTranscoder` is made of.

    Raises:
        ConfigError: A field is out of range, or contradicts another.
    """

    d_in: int
    """Width of the activations that are read."""

    d_out: int
    """Width of the activations that are written."""

    d_sae: int
    """Number of latents."""

    k: int
    """Number of latents that may be active at once."""

    apply_b_dec_to_input: bool = False
    """Whether `b_dec` is subtracted from the input, as in an SAE."""

    skip: bool = False
    """Whether the input also reaches the output through a matrix `W_skip`."""

    dtype: torch.dtype = torch.float32
    """Type of all parameters."""

    def __post_init__(self) -> None:
        check_sizes(self, "d_in", "d_out", "d_sae", "k")
        if self.k > self.d_sae:
            raise ConfigError(f"k must be at most d_sae = {self.d_sae}, and is {self.k}")
        if self.apply_b_dec_to_input and self.d_in != self.d_out:
            raise ConfigError(
                f"apply_b_dec_to_input needs d_in = d_out, and they are {self.d_in} and {self.d_out}"
            )
        check_dtype(self.dtype)
