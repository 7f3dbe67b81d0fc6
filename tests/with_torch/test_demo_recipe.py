"""The recipe of the demonstration, on data whose sparse structure is known."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from unitrow.training import Trainer, TrainerConfig, evaluate  # noqa: E402

from .support import is_unit_to_rounding  # noqa: E402

pytestmark = pytest.mark.torch

WIDTH, FEATURES, ACTIVE, ROWS = 24, 48, 4, 12_000


def sparse_pairs(rows, seed):
    """Targets are sums of ACTIVE out of FEATURES directions, inputs the same sums of other directions.

    Inputs have a mean and one dimension larger than the others, as those of language models have.
    """
    directions = torch.randn(2, FEATURES, WIDTH, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(rows, FEATURES, generator=generator).topk(ACTIVE).indices
    strength = torch.zeros(rows, FEATURES).scatter(
        1, chosen, 1 + torch.rand(rows, ACTIVE, generator=generator)
    )
    x, y = (strength @ part for part in directions)
    x[:, 5] *= 6
    return x + 3, 0.3 * y - 1


def test_it_finds_sparse_structure_and_keeps_rows_unit(tmp_path):
    config = TrainerConfig.from_recipe(
        "demo",
        d_in=WIDTH,
        d_out=WIDTH,
        d_sae=64,
        steps=120,
        batch_size=512,
        topk=6.0,
        target_l0=6.0,
        topk_steps=20,
        log_every=1,
        checkpoint_every=1000,
    )
    trainer = Trainer(config, [sparse_pairs(ROWS, seed) for seed in range(6)], tmp_path)
    trainer.train()
    transcoder = trainer.export()

    x, y = sparse_pairs(4000, 99)
    figures = evaluate(transcoder, [(x, y)])
    assert figures["fvu"] < 0.25
    assert figures["l0"] == pytest.approx(6, rel=0.05)
    assert figures["never_fired"] < 0.1

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 121))
    assert all(line["rows_beyond_rounding"] == 0 for line in lines)
    assert is_unit_to_rounding(transcoder.W_dec.detach()).all()
