"""A decoder that starts out fitting its encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unitrow.training.distributed import sum_

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unitrow.training.config import TrainerConfig
    from unitrow.training.data import Pair
    from unitrow.transcoder.model import JumpReLUTranscoder


@torch.no_grad()
def match_(model: JumpReLUTranscoder, config: TrainerConfig, pairs: Sequence[Pair]) -> None:
    """Fit decoder, biases and the encoder's scale to a random encoder and the first batches.

    A row of the decoder that has nothing to do with what makes its latent fire is wrong on almost every token
    that it is used on, and the gradient turns the latent off for good before it turns the row. So:

    - pre-activations get mean 0 and deviation 1 over the batches, by factors on `W_enc` and by `b_enc`;
    - each row becomes the direction of Σ f (t − t̄) over the tokens on which its latent is among the `topk`
      largest, with activations f and targets t; `b_dec` becomes t̄, their mean;
    - the encoder is scaled by the factor that then fits best, times `encoder_init_scale`.

    Args:
        model: A transcoder without a skip connection at work, that is with `W_skip` zero or absent.
        config: The run.
        pairs: Scaled inputs and targets, this process's part of the first batches.
    """
    rows = sum_(torch.tensor(float(sum(len(x) for x, _ in pairs)), device=model.W_enc.device))
    model.b_enc.zero_()
    mean = sum_(torch.stack([model.pre_activations(x).sum(0) for x, _ in pairs]).sum(0)) / rows
    deviations = torch.stack([(model.pre_activations(x) - mean).square().sum(0) for x, _ in pairs])
    deviation = (sum_(deviations.sum(0)) / rows).sqrt().clamp(min=torch.finfo(mean.dtype).tiny)
    model.W_enc.div_(deviation)
    model.b_enc.copy_(-mean / deviation)
    model.b_dec.copy_(sum_(torch.stack([target.sum(0) for _, target in pairs]).sum(0)) / rows)

    directions = torch.zeros_like(model.W_dec)
    for f, centred in _activations(model, config, pairs):
        directions += f.T @ centred
    sum_(directions)
    # A latent that never was among the largest keeps its random row.
    fitted = directions.norm(dim=1, keepdim=True) > 0
    model.W_dec.copy_(torch.where(fitted, directions, model.W_dec))
    model.set_decoder_norm_to_unit_norm()

    products = torch.zeros(2, device=rows.device)
    for f, centred in _activations(model, config, pairs):
        output = f @ model.W_dec
        products += torch.stack([(output * centred).sum(), output.square().sum()])
    along, squares = sum_(products).tolist()
    factor = config.encoder_init_scale * along / squares
    model.W_enc.mul_(factor)
    model.b_enc.mul_(factor)


def _activations(
    model: JumpReLUTranscoder, config: TrainerConfig, pairs: Sequence[Pair]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The largest pre-activations of each token, (batch, d_sae), and targets less their mean."""
    for x, target in pairs:
        values, places = torch.relu(model.pre_activations(x)).topk(round(config.topk), dim=-1)
        yield (
            torch.zeros(len(x), config.d_sae, device=x.device).scatter(-1, places, values),
            (target - model.b_dec),
        )
