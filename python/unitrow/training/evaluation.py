"""How well a transcoder does on activations that it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unitrow.errors import ArrayError
from unitrow.training.data import checked_pair
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
        `density`, as `Meter` defines them; nothing where there are no pairs. Of several processes each gets
        the figures of its own pairs.

    Raises:
        ArrayError: Inputs or targets of a pair have another width than the transcoder, or not the same
            number of rows.
        ArrayTypeError: A piece is no pair of floating-point tensors.
    """
    pairs = data.in_order(batch_size) if isinstance(data, ActivationShards) else data
    cfg, device = transcoder.cfg, transcoder.W_dec.device
    meter = Meter(cfg.d_out, cfg.d_sae, device, shared=False)
    was_training = transcoder.training
    transcoder.eval()
    for number, pair in enumerate(pairs):
        inputs, targets = checked_pair(pair, number)
        for name, tensor, width in (("inputs", inputs, "d_in"), ("targets", targets, "d_out")):
            expected, found = getattr(cfg, width), tensor.shape[1]
            if found != expected:
                raise ArrayError(f"{name} of item {number} must have {width} = {expected}, and has {found}")
        x, target = inputs.to(device, torch.float32), targets.to(device, torch.float32)
        f = transcoder.encode(x)
        meter.add(transcoder.decode(f, x).float(), target, f)
    transcoder.train(was_training)
    return meter.figures()
