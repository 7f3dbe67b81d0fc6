"""What the demonstration and the comparison with other libraries have in common."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unitrow.training.demo.corpus import documents
from unitrow.training.demo.minilm import NAME, MiniLM
from unitrow.training.recording import record
from unitrow.training.shuffling import ActivationShards

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
TRAIN_TOKENS = 230_000
HELD_OUT_TOKENS = 20_000
SENTENCES = 500


@dataclass
class Material:
    """What is trained on, and what is not.

    Attributes:
        train: Recorded activations to train on.
        held_out: Recorded activations of other texts.
        sentences: Texts for sentence embeddings, among those of `held_out`.
    """

    train: ActivationShards
    held_out: ActivationShards
    sentences: list[str]


def material(minilm: MiniLM, folder: str, say: Callable[[str], None]) -> Material:
    """Records the activations of Python's documentation, unless they are there already.

    Training and held-out tokens come from different texts: the first seven eighths of the corpus, and the
    last.

    Args:
        minilm: The model.
        folder: Where the shards go.
        say: Called with a line now and then.
    """
    texts = documents()
    cut = len(texts) * 7 // 8
    parts = {"train": (texts[:cut], TRAIN_TOKENS), "held_out": (texts[cut:], HELD_OUT_TOKENS)}
    shards = {}
    for name, (part, tokens) in parts.items():
        place = os.path.join(folder, name)
        if not os.path.isdir(place) or not os.listdir(place):
            say(f"recording {tokens:,} tokens into {place}")
            record(
                minilm.model,
                minilm.tokenizer,
                part,
                place,
                site=minilm.site,
                max_tokens=tokens,
                model_name=NAME,
            )
        shards[name] = ActivationShards(place)
    return Material(shards["train"], shards["held_out"], texts[cut : cut + SENTENCES])


def mean_cosine(a: Tensor, b: Tensor) -> float:
    """Mean cosine of the rows of two tensors of the same shape."""
    return float(torch.cosine_similarity(a, b, dim=-1).mean())


def mean_target(shards: ActivationShards) -> Tensor:
    """The mean of all targets, (d_out,)."""
    total = sum(targets.sum(0, dtype=torch.float64) for _, targets in shards.in_order(8192))
    return (torch.as_tensor(total) / shards.rows).float()
