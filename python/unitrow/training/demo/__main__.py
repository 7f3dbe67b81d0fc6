"""Trains a transcoder of a real model on real text, in a few minutes on two cores, and judges it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import torch

import unitrow
from unitrow.errors import UnitrowError
from unitrow.training import Trainer, TrainerConfig
from unitrow.training.demo import minilm, steps
from unitrow.training.logs import read_lines

if TYPE_CHECKING:
    from unitrow.transcoder.model import JumpReLUTranscoder


def main() -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m unitrow.training.demo", description=__doc__)
    parser.add_argument("--folder", default=".demo", help="where everything goes (default: .demo)")
    parser.add_argument("--latents", type=int, default=1024, help="how many (default: 1024)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        return demonstrate(arguments.folder, arguments.latents, arguments.seed)
    except (UnitrowError, OSError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def demonstrate(folder: str, latents: int, seed: int) -> int:
    """All of it.

    Args:
        folder: Holds the model and the recorded activations, which later runs find, and the run.
        latents: How many.
        seed: Of the initial weights and the order of the data.

    Returns:
        0, or 1 where rows left their bound or the audit found something.
    """
    os.makedirs(folder, exist_ok=True)
    say(f"The model: {minilm.NAME}, a sentence embedding model with 6 layers of width 384.")
    model = minilm.MiniLM(minilm.fetch(folder))
    say(f"The text: Python's own documentation. What the MLP of layer {minilm.LAYER} reads and writes is")
    say("what the transcoder learns to compute, with few of its latents active at a time.")
    material = steps.material(model, os.path.join(folder, "activations"), say)

    run = os.path.join(folder, f"run-{latents}-{seed}-{time.strftime('%Y%m%d-%H%M%S')}")
    widths = {"d_in": material.train.d_in, "d_out": material.train.d_out, "d_sae": latents}
    config = TrainerConfig.from_recipe("demo", **widths, seed=seed, log_every=1)
    sizes = f"{config.d_in} -> {latents} -> {config.d_out}"
    say(f"\nTraining {sizes}, {config.steps} steps of {config.batch_size:,} tokens.")
    metadata = {"model_name": minilm.NAME, "hook_name": model.site.source, "hook_name_out": model.site.target}
    trainer = Trainer(config, material.train, run, metadata=metadata)
    started = time.perf_counter()
    trainer.train()
    say(f"That took {time.perf_counter() - started:.0f} s.")
    bounded = check_rows(read_lines(os.path.join(run, "metrics.jsonl")), config.steps)

    transcoder = trainer.export()
    place = os.path.join(run, "transcoder")
    transcoder.save_model(place)
    say(f"\n$ unitrow audit {place}")
    report = unitrow.audit(place, expect="unit")
    say(report.render("full", ascii_only=True))

    say(f"On {material.held_out.rows:,} tokens of texts that were not trained on:")
    figures = trainer.evaluate(material.held_out)
    for line in table(figures, embedding_cosines(model, transcoder, material)):
        say(line)
    say(f"\nCurves of the run: {os.path.join(run, 'index.html')}")
    return 0 if bounded and report.exit_code == 0 else 1


def check_rows(lines: list[dict[str, Any]], steps_expected: int) -> bool:
    """Says whether every row was within its rounding bound after every step."""
    worst = max(line["max_norm_deviation_u"] for line in lines)
    beyond = [line["step"] for line in lines if line["rows_beyond_rounding"]]
    if len(lines) != steps_expected or beyond:
        say(f"Rows left their rounding bound after steps {beyond[:5]}, of {len(lines)} that were looked at.")
        return False
    say(
        f"After each of {len(lines)} steps every decoder row was a unit vector as exactly as float32 can say:"
        f"\nits norm was never further from 1 than {worst:.2f} of 2^-24, all of it rounding."
    )
    return True


def embedding_cosines(
    model: minilm.MiniLM, transcoder: JumpReLUTranscoder, material: steps.Material
) -> dict[str, float]:
    """Mean cosine of sentence embeddings with and without something in place of the MLP."""
    whole = model.embeddings(material.sentences)
    mean = steps.mean_target(material.train)
    with torch.inference_mode():
        spliced = model.embeddings(material.sentences, transcoder)
        ablated = model.embeddings(material.sentences, lambda x: mean.expand(len(x), -1))
    return {"spliced": steps.mean_cosine(whole, spliced), "ablated": steps.mean_cosine(whole, ablated)}


def table(figures: dict[str, Any], cosines: dict[str, float]) -> list[str]:
    """The figures, each with what it means."""
    rows = [
        ("FVU", f"{figures['fvu']:.4f}", "variance of the MLP's output that is left unexplained"),
        ("L0", f"{figures['l0']:.2f}", "latents active on a token, on average"),
        ("never active", f"{figures['never_fired']:.1%}", "of the latents"),
        ("cosine", f"{cosines['spliced']:.4f}", "of sentence embeddings, transcoder in place of the MLP"),
        ("", f"{cosines['ablated']:.4f}", "the same with the mean output in its place"),
    ]
    return [f"  {name:<13}{value:>7}  {meaning}" for name, value, meaning in rows]


def say(line: str) -> None:
    """A line for the reader, now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
