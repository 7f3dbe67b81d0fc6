"""TopK transcoders and SAEs, for inference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unitrow.transcoder.checks import check_rows
from unitrow.transcoder.files import TopKFiles

if TYPE_CHECKING:
    from unitrow.transcoder.config import TopKTranscoderConfig


class TopKTranscoder(TopKFiles):
    """A transcoder, or an SAE, that keeps the k largest activations: what EleutherAI's sparsify trains.

        f = TopK_k(ReLU(x W_enc + b_enc))    an SAE reads x − b_dec
        y = f W_dec + b_dec                  plus x W_skipᵀ, where there is a skip connection

    For use, not for training: there is no initialisation beyond zeros.
    """

    W_skip: nn.Parameter | None

    def __init__(self, cfg: TopKTranscoderConfig) -> None:
        super().__init__()
        self.cfg = cfg = replace(cfg)
        self.W_enc = nn.Parameter(torch.zeros(cfg.d_in, cfg.d_sae, dtype=cfg.dtype))
        self.W_dec = nn.Parameter(torch.zeros(cfg.d_sae, cfg.d_out, dtype=cfg.dtype))
        self.b_enc = nn.Parameter(torch.zeros(cfg.d_sae, dtype=cfg.dtype))
        self.b_dec = nn.Parameter(torch.zeros(cfg.d_out, dtype=cfg.dtype))
        skip = nn.Parameter(torch.zeros(cfg.d_out, cfg.d_in, dtype=cfg.dtype)) if cfg.skip else None
        self.register_parameter("W_skip", skip)

    def encode(self, x: Tensor) -> Tensor:
        """Activations of the latents, (..., d_sae), all but k of them zero."""
        check_rows(x, "x", "d_in", self.cfg.d_in)
        x = x.to(self.W_enc.dtype)
        if self.cfg.apply_b_dec_to_input:
            x = x - self.b_dec
        activations = torch.relu(x @ self.W_enc + self.b_enc)
        values, places = activations.topk(self.cfg.k, dim=-1, sorted=False)
        return torch.zeros_like(activations).scatter(-1, places, values)

    def decode(self, f: Tensor, x: Tensor | None = None) -> Tensor:
        """Outputs, (..., d_out); `x` is for the skip connection, whose part is left out without it."""
        check_rows(f, "f", "d_sae", self.cfg.d_sae)
        y = f.to(self.W_dec.dtype) @ self.W_dec + self.b_dec
        if self.W_skip is not None and x is not None:
            y = y + x.to(self.W_skip.dtype) @ self.W_skip.T
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Outputs, (..., d_out), for inputs x, (..., d_in)."""
        return self.decode(self.encode(x), x)
