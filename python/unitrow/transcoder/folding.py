"""Changes of a transcoder's parameters that leave what it computes as it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unitrow.errors import ConfigError
from unitrow.torch._ops import row_norms, unit_norm_

if TYPE_CHECKING:
    from unitrow.transcoder.config import JumpReLUTranscoderConfig


class Foldable(nn.Module):
    """The decoder's rows and the scales of activations, in place.

    Both folds rest on JumpReLU_{cθ}(cz) = c JumpReLU_θ(z) for c > 0.
    """

    cfg: JumpReLUTranscoderConfig
    W_enc: nn.Parameter
    W_dec: nn.Parameter
    b_enc: nn.Parameter
    b_dec: nn.Parameter
    threshold: nn.Parameter
    W_skip: nn.Parameter | None

    def set_decoder_norm_to_unit_norm(self) -> None:
        """Makes the rows of `W_dec` unit vectors; `fold_W_dec_norm` does so without changing the function."""
        unit_norm_(self.W_dec)

    @torch.no_grad()
    def fold_W_dec_norm(self) -> None:  # noqa: N802  (the field's name for it)
        """Makes the rows of `W_dec` unit vectors in place, and scales the encoder so that outputs stay equal.

        Rows of zeros stay, and so does their encoder. What a rounded row lacks of norm 1 is taken into
        account, and nothing changes the second time. For after training: neither an optimizer's moments nor
        the bandwidth are scaled.
        """
        before = row_norms(self.W_dec)
        unit_norm_(self.W_dec)
        scale = torch.where(before.isfinite() & (before > 0), before / row_norms(self.W_dec), 1)
        for encoding in (self.W_enc, self.b_enc, self.threshold):
            encoding.mul_(scale)

    @torch.no_grad()
    def fold_standardization(self, mean: Tensor, deviation: Tensor) -> None:
        """Turns a transcoder of standardised inputs into one of inputs as they were, in place.

        Args:
            mean: What training subtracted from the inputs, (d_in,).
            deviation: What it divided them by then, (d_in,).

        Raises:
            ConfigError: A deviation is not a positive number.
        """
        if not (deviation.isfinite() & (deviation > 0)).all():
            raise ConfigError("deviation must be positive numbers, and is not everywhere")
        mean, deviation = mean.double(), deviation.double()
        encoder = self.W_enc.double() / deviation[:, None]
        self.b_enc.copy_(self.b_enc.double() - mean @ encoder)
        self.W_enc.copy_(encoder)
        if self.W_skip is not None:
            skip = self.W_skip.double() / deviation
            self.b_dec.copy_(self.b_dec.double() - skip @ mean)
            self.W_skip.copy_(skip)

    @torch.no_grad()
    def fold_scales(self, input_scale: float, output_scale: float) -> None:
        """Turns a transcoder of scaled activations into one of raw activations, in place.

        Both scales go into the encoder, so that decoder rows stay as they were trained: dividing `W_dec`
        would give all rows one norm other than 1.

        Args:
            input_scale: Training divided the inputs by this.
            output_scale: Training divided the targets by this.

        Raises:
            ConfigError: A scale is not a positive number.
        """
        for name, scale in (("input_scale", input_scale), ("output_scale", output_scale)):
            if not (math.isfinite(scale) and scale > 0):
                raise ConfigError(f"{name} must be a positive number, and is {scale}")
        self.W_enc.mul_(output_scale / input_scale)
        if self.W_skip is not None:
            self.W_skip.mul_(output_scale / input_scale)
        for bias in (self.b_enc, self.threshold, self.b_dec):
            bias.mul_(output_scale)
        self.cfg.bandwidth *= output_scale  # the window is as wide as before, measured in thresholds
