"""How well a transcoder does on activations that it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unitrow.training.metrics import Meter
from unitrow.training.shuffling import ActivationShards

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unitrow.training.data import Pair
    from unitrow.transcoder.model import JumpReLUTranscoder
    from unitrow.transcoder.topk import TopKTranscoder


@torch.no_grad()
def evaluate(
    transcoder: JumpReLUTranscoder | TopKTranscoder,
    data: ActivationShards | Iterable[Pair],
    *,
    batch_size: int = 4096,
) -> dict[str, Any]:
    """Figures of a transcoder of raw activations, over every pair once.

    Args:
        transcoder: The transcoder, on any device.
        data: Shards, or pairs of inputs and targets.
        batch_size: Rows at a time, where data are shards.

    Returns:
        `fvu`, `mse` (squared error, summed over outputs), `l0`, `never_fired` (part of the latents) and
        `density`, as `Meter` defines them.
    """
    pairs = data.in_order(batch_size) if isinstance(data, ActivationShards) else data
    cfg, device = transcoder.cfg, transcoder.W_dec.device
    meter = Meter(cfg.d_out, cfg.d_sae, device)
    was_training = transcoder.training
    transcoder.eval()
    for inputs, targets in pairs:
        x, target = inputs.to(device, torch.float32), targets.to(device, torch.float32)
        f = transcoder.encode(x)
        meter.add(transcoder.decode(f, x).float(), target, f)
    transcoder.train(was_training)
    return meter.figures()
