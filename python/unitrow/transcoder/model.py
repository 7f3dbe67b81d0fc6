"""The JumpReLU transcoder."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from unitrow.transcoder.checks import check_rows
from unitrow.transcoder.estimators import jump_relu, step
from unitrow.transcoder.files import JumpReLUFiles
from unitrow.transcoder.folding import Foldable

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitrow.transcoder.config import JumpReLUTranscoderConfig


class JumpReLUTranscoder(Foldable, JumpReLUFiles):
    """Activations of one site from those of another, through few active latents.

        z = x W_enc + b_enc        pre-activations, (..., d_sae)
        f = z · H(z − threshold)   activations of the latents
        y = f W_dec + b_dec        plus x W_skipᵀ, where there is a skip connection

    Nothing is subtracted from the input. With the same site on both sides it is an SAE.

    Attributes:
        cfg: The configuration; `cfg.bandwidth` may be changed while training.
        W_enc: (d_in, d_sae).
        W_dec: (d_sae, d_out), one row per latent. Unit rows at first; `UnitNorm` or `UnitNormAdam` of
            `unitrow.torch` keep them so while an optimizer trains them.
        b_enc: (d_sae,).
        b_dec: (d_out,).
        threshold: (d_sae,), at least float32 whatever the module is cast to: steps of an optimizer are lost
            in the rounding of narrower types. Trained as it is, not as a logarithm, and set to 0 where a
            step made it negative.
        W_skip: (d_out, d_in), or None.
    """

    def __init__(self, cfg: JumpReLUTranscoderConfig) -> None:
        super().__init__()
        self.cfg = cfg = replace(cfg, metadata=dict(cfg.metadata))

        def parameter(*shape: int, dtype: torch.dtype = cfg.dtype) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, dtype=dtype))

        self.W_enc = parameter(cfg.d_in, cfg.d_sae)
        self.W_dec = parameter(cfg.d_sae, cfg.d_out)
        self.b_enc = parameter(cfg.d_sae)
        self.b_dec = parameter(cfg.d_out)
        self.threshold = parameter(cfg.d_sae, dtype=torch.promote_types(cfg.dtype, torch.float32))
        self.register_parameter("W_skip", parameter(cfg.d_out, cfg.d_in) if cfg.skip else None)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """He-uniform matrices, decoder rows made unit; biases and the skip connection zero."""
        nn.init.uniform_(self.W_dec, -1, 1)  # whatever its range, rows end up as unit vectors
        self.set_decoder_norm_to_unit_norm()
        if self.cfg.tied_init:
            self.W_enc.copy_(self.W_dec.T)
        else:
            bound = math.sqrt(6 / self.cfg.d_in)
            nn.init.uniform_(self.W_enc, -bound, bound)
        self.threshold.fill_(self.cfg.threshold_init)
        for zero in (self.b_enc, self.b_dec, self.W_skip):
            if zero is not None:
                zero.zero_()

    def extra_repr(self) -> str:  # noqa: D102
        cfg = self.cfg
        skip = ", skip=True" if cfg.skip else ""
        return f"d_in={cfg.d_in}, d_out={cfg.d_out}, d_sae={cfg.d_sae}, bandwidth={cfg.bandwidth}{skip}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Casts and moves, but leaves the threshold at least as wide as float32, without rounding it."""
        wide = {id(self.threshold), id(self.threshold.grad)}

        def apply(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if id(tensor) in wide and moved.is_floating_point() and moved.itemsize < torch.float32.itemsize:
                return tensor.to(moved.device, torch.float32)
            return moved

        return super()._apply(apply, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def pre_activations(self, x: Tensor) -> Tensor:
        """Pre-activations of the latents, (..., d_sae), for inputs x, (..., d_in)."""
        check_rows(x, "x", "d_in", self.cfg.d_in)
        return x.to(self.W_enc.dtype) @ self.W_enc + self.b_enc

    def activate(self, z: Tensor) -> Tensor:
        """Activations of the latents for pre-activations z; gradients by straight-through estimators."""
        self._keep_thresholds_positive()
        return jump_relu(z, self.threshold, self.cfg.bandwidth, ste_to_input=self.cfg.ste_to_input)

    def step(self, z: Tensor) -> Tensor:
        """1 where a latent is active, else 0, for pre-activations z; `.sum(-1)` is the L0 to penalise."""
        self._keep_thresholds_positive()
        return step(z, self.threshold, self.cfg.bandwidth, ste_to_input=self.cfg.ste_to_input)

    def encode(self, x: Tensor) -> Tensor:
        """Activations of the latents, (..., d_sae), for inputs x, (..., d_in)."""
        return self.activate(self.pre_activations(x))

    def decode(self, f: Tensor, x: Tensor | None = None) -> Tensor:
        """Outputs, (..., d_out), for activations f, (..., d_sae).

        Args:
            f: Activations of the latents.
            x: The inputs, for the skip connection; without them its part is left out.
        """
        check_rows(f, "f", "d_sae", self.cfg.d_sae)
        y = f.to(self.W_dec.dtype) @ self.W_dec + self.b_dec
        if self.W_skip is not None and x is not None:
            check_rows(x, "x", "d_in", self.cfg.d_in)
            y = y + x.to(self.W_skip.dtype) @ self.W_skip.T
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Outputs, (..., d_out), for inputs x, (..., d_in)."""
        return self.decode(self.encode(x), x)

    def _keep_thresholds_positive(self) -> None:
        # On the data, which autograd does not see: where a clamp in the graph is at work it has no gradient,
        # and a threshold that got there would stay.
        if self.training:
            self.threshold.data.clamp_(min=0)
