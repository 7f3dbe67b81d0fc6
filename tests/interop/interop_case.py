"""Sizes that tell every axis apart, and what every audited decoder must satisfy."""

from __future__ import annotations

D_IN, D_OUT, D_SAE = 24, 40, 96


def decoder_of(checkpoint):
    """The only decoder of a checkpoint, for which the axes are decided."""
    (decoder,) = checkpoint["decoders"]
    assert {decoder["latent_axis"], decoder["reduce_axis"]} == {0, 1}
    assert decoder["rows"] == decoder["shape"][decoder["latent_axis"]]
    return decoder
