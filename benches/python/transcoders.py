"""Our transcoder against sparsify's: same activations, scaling and budget, same held-out tokens.

sparsify's is a TopK transcoder (k = 32) that Adam trains with a constant learning rate and without any
constraint on norms. Both see 400 batches of 2,048 tokens, inputs and targets each divided by their root mean
square. The recorded activations are those of `make demo-train`, and stay in its folder.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

import torch

from unitrow.training import Trainer, TrainerConfig, evaluate
from unitrow.training.demo import minilm, steps
from unitrow.transcoder import TopKTranscoder, TopKTranscoderConfig

if TYPE_CHECKING:
    from unitrow.transcoder import JumpReLUTranscoder

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # it has no kernels for a CPU
WIDTH = 384
K = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=".demo")
    parser.add_argument("--latents", type=int, nargs="+", default=[1024, 3072])
    parser.add_argument("--rates", type=float, nargs="*", default=[1e-2, 5e-3, 2e-3, 1e-3], help="sparsify's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", choices=["unitrow", "sparsify"], help="one of the two")
    arguments = parser.parse_args()
    model = minilm.MiniLM(minilm.fetch(arguments.folder))
    material = steps.material(model, os.path.join(arguments.folder, "activations"), print)
    whole = model.embeddings(material.sentences)
    print("who            latents      lr  seed     FVU     L0  never active  cosine  seconds", flush=True)
    for latents, seed in itertools.product(arguments.latents, arguments.seeds):
        runs: list[tuple[str, float | None]] = [("unitrow demo", None)]
        runs += [("sparsify", rate) for rate in arguments.rates]
        runs = [run for run in runs if run[0].split()[0] == (arguments.only or run[0].split()[0])]
        for who, rate in runs:
            started = time.perf_counter()
            transcoder = (
                ours(material, latents, seed) if rate is None else sparsify(material, latents, seed, rate)
            )
            seconds = time.perf_counter() - started
            figures = evaluate(transcoder, material.held_out)
            with torch.inference_mode():
                cosine = steps.mean_cosine(whole, model.embeddings(material.sentences, transcoder))
            print(
                f"{who:<15}{latents:>7}  {rate or '':>6}  {seed:>4}  {figures['fvu']:.4f}  "
                f"{figures['l0']:5.2f}  {figures['never_fired']:>12.1%}  {cosine:.4f}  {seconds:>7.0f}",
                flush=True,
            )


def ours(material: steps.Material, latents: int, seed: int) -> JumpReLUTranscoder:
    config = TrainerConfig.from_recipe("demo", d_in=WIDTH, d_out=WIDTH, d_sae=latents, seed=seed)
    with tempfile.TemporaryDirectory() as run:
        trainer = Trainer(config, material.train, run)
        trainer.train()
        return trainer.export()


def sparsify(material: steps.Material, latents: int, seed: int, rate: float) -> TopKTranscoder:
    from sparsify.config import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    scales = [rms(material, place) for place in range(2)]
    torch.manual_seed(seed)
    coder = SparseCoder(WIDTH, SparseCoderConfig(num_latents=latents, k=K, transcode=True))
    optimizer = torch.optim.Adam(coder.parameters(), lr=rate)
    for pair in itertools.islice(material.train.batches(2048, seed=seed), 400):
        x, y = (part / scale for part, scale in zip(pair, scales, strict=True))
        optimizer.zero_grad()
        coder(x, y).fvu.backward()
        optimizer.step()
    return for_raw_activations(coder, latents, *scales)


def rms(material: steps.Material, place: int) -> float:
    """Root mean square of the inputs (0) or the targets (1) that are trained on."""
    total = sum(pair[place].double().square().mean(-1).sum() for pair in material.train.in_order(8192))
    return float((total / material.train.rows).sqrt())


@torch.no_grad()
def for_raw_activations(coder: Any, latents: int, input_scale: float, target_scale: float) -> TopKTranscoder:
    transcoder = TopKTranscoder(TopKTranscoderConfig(WIDTH, WIDTH, latents, K))
    transcoder.W_enc.copy_(coder.encoder.weight.T / input_scale)
    transcoder.b_enc.copy_(coder.encoder.bias)
    transcoder.W_dec.copy_(coder.W_dec * target_scale)
    transcoder.b_dec.copy_(coder.b_dec * target_scale)
    return transcoder


if __name__ == "__main__":
    main()
