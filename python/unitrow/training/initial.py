"""Initial weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unitrow.training import distributed
from unitrow.transcoder.config import JumpReLUTranscoderConfig
from unitrow.transcoder.model import JumpReLUTranscoder

if TYPE_CHECKING:
    from typing import Any

    from unitrow.training.config import TrainerConfig


def build(config: TrainerConfig, metadata: dict[str, Any], device: torch.device) -> JumpReLUTranscoder:
    """A transcoder with initial weights, a function of the seed; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = JumpReLUTranscoder(
            JumpReLUTranscoderConfig(
                config.d_in,
                config.d_out,
                config.d_sae,
                bandwidth=config.bandwidth,
                threshold_init=config.threshold_init,
                skip=config.skip,
                tied_init=config.tied_init,
                ste_to_input=config.ste_to_input,
                metadata=metadata,
            )
        )
        if config.init == "narrow":
            _narrow_(model)
    with torch.no_grad():
        model.W_enc.mul_(config.encoder_init_scale)
    if config.decoder == "unit":
        model.set_decoder_norm_to_unit_norm()
    return model.to(device)


@torch.no_grad()
def _narrow_(model: JumpReLUTranscoder) -> None:
    cfg = model.cfg
    nn.init.uniform_(model.W_dec, -1 / math.sqrt(cfg.d_out), 1 / math.sqrt(cfg.d_out))
    if cfg.tied_init:
        model.W_enc.copy_(model.W_dec.T)
    else:
        nn.init.uniform_(model.W_enc, -1 / math.sqrt(cfg.d_in), 1 / math.sqrt(cfg.d_in))
    model.W_enc.mul_(cfg.d_in / cfg.d_sae)


@torch.no_grad()
def set_firing_rates_(model: JumpReLUTranscoder, config: TrainerConfig, inputs: Tensor) -> None:
    """Choose `b_enc` so that each latent fires on its part of `initial_l0` of the tokens of a batch.

    Args:
        model: The transcoder.
        config: The run.
        inputs: Scaled inputs, this process's part of the first batch.
    """
    if config.initial_l0 is None:
        return
    z = distributed.gather(inputs) @ model.W_enc
    rate = min(config.initial_l0 / config.d_sae, 0.5)
    # As many as are to fire lie above this one.
    quiet = len(z) - max(1, round(rate * len(z)))
    model.b_enc.copy_(model.threshold - z.kthvalue(max(quiet, 1), dim=0).values)
