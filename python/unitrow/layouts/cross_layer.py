"""Cross-layer transcoders and crosscoders: one file per layer, a folder is the checkpoint.

A decoder here has three axes, latents by written sites by activations, and a row is one latent at one
site. No trainer of these sets is public, so nothing is expected of their rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unitrow.layouts.config import as_text
from unitrow.layouts.entry import Judgement, Layout, plan
from unitrow.layouts.model import FileMeta, Match
from unitrow.layouts.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitrow.layouts.source import Surroundings

_TRACER_MEMBER = re.compile(r"W_(?:enc|dec)_(?P<layer>[0-9]{1,4})\.safetensors")
_TRACER_CONFIGS = ("config.yaml", "config.yml")
_TRACER_CONFIG_KIND = "cross_layer_transcoder"
_AFFINE = "affine_skip_connection"


@dataclass(frozen=True, slots=True)
class SetLayout:
    """A layout whose checkpoint is a set of files, one or two for each layer."""

    ids: tuple[str, ...]
    """Names in reports."""

    title: str
    """Name for people."""

    member: re.Pattern[str]
    """Names of the files; the group ``layer`` is the index."""

    plan: Callable[[Surroundings, dict[int, list[Source]]], Match | None]
    """Turn the files of each layer into one match, None when they are something else."""

    def gather(self, around: Surroundings, sources: Sequence[Source]) -> Match | None:
        """Find the members among the files of a folder, and plan them."""
        layers: dict[int, list[Source]] = {}
        for source in sources:
            found = self.member.fullmatch(source.file.path)
            if found is not None:
                layers.setdefault(int(found["layer"]), []).append(source)
        return self.plan(around, dict(sorted(layers.items()))) if layers else None


def _plan_tracer(around: Surroundings, layers: dict[int, list[Source]]) -> Match | None:
    if not any(source.has(f"W_dec_{layer}") for layer, sources in layers.items() for source in sources):
        return None
    configs = [around.yaml(name) for name in _TRACER_CONFIGS]
    config = next((config for config in configs if config.present), configs[0])
    given = {source.file.path for sources in layers.values() for source in sources}
    unseen = around.folder.siblings - given  # files beside the one that was asked for
    indices = {int(found["layer"]) for name in unseen | given if (found := _TRACER_MEMBER.fullmatch(name))}
    matches = []
    for layer, sources in layers.items():
        sites = max(indices) + 1 - layer
        joined = _joined(around, sources, decoder=f"W_dec_{layer}.safetensors")
        matches.append(plan(_tracer_layer(layer, sites, unseen), joined, "", named=True))
    merged = _merge("circuit_tracer_clt", list(layers.values()), matches)
    merged.why = "W_enc_{i} and W_dec_{i} files of a cross-layer transcoder"
    if as_text(config.values.get("model_kind")) == _TRACER_CONFIG_KIND:
        merged.why += f", beside a {config.name} that says so"
    first = next(iter(layers.values()))[0]
    notes = Source(around, first.file)
    notes.check_config(config)
    for layer in sorted(set(range(max(indices))) - indices)[:3]:
        notes.missing(
            f"W_dec_{layer}", "layers from 0 without a gap", f"the files of layer {layer} are absent"
        )
    merged.findings = notes.findings + merged.findings
    merged.files += tuple(name for name in _TRACER_CONFIGS if name in around.folder.siblings)
    return merged


def _tracer_layer(layer: int, sites: int, unseen: frozenset[str]) -> Layout:
    """Return the table of one layer, whose number is part of every tensor name."""
    encoder, decoder = f"W_enc_{layer}", f"W_dec_{layer}"
    required = [] if f"{decoder}.safetensors" in unseen else [decoder]
    if f"{encoder}.safetensors" not in unseen:
        required += [encoder, f"b_enc_{layer}", f"b_dec_{layer}"]

    def judge(_source: Source, _named: bool) -> Judgement:
        judgement = Judgement(
            expected="unknown",
            expected_why="the trainers of these transcoders are not public",
            required=tuple((name,) for name in required),
            required_why="circuit-tracer's loader",
        )
        judgement.state("sites", sites, f"the number of layers from {layer} on")
        return judgement

    return Layout(
        id="circuit_tracer_clt",
        title="circuit-tracer cross-layer transcoder",
        is_folder=True,
        weights=re.compile(r".*"),
        decoder=decoder,
        shapes={
            encoder: "d_sae d_in",
            decoder: "d_sae sites d_out",
            f"b_enc_{layer}": "d_sae",
            f"b_dec_{layer}": "d_out",
            f"threshold_{layer}": "d_sae",
        },
        recognise=lambda _source, _named: None,
        judge=judge,
    )


def _joined(around: Surroundings, sources: Sequence[Source], decoder: str) -> Source:
    """View the files of one layer as one, under the name of the one that holds the decoder."""
    paths = [source.file.path for source in sources]
    tensors = tuple(tensor for source in sources for tensor in source.tensors.values())
    return Source(around, FileMeta(decoder if decoder in paths else paths[0], "safetensors", tensors))


def _plan_gemma(around: Surroundings, layers: dict[int, list[Source]]) -> Match | None:
    sources = [source for files in layers.values() for source in files]
    if not all(source.has("w_dec") for source in sources):
        return None
    config = around.json("config.json")
    kind = as_text(config.values.get("type"))
    if kind not in {"clt", "crosscoder"}:
        kind = "crosscoder" if any("crosscoder" in part for part in around.folder.names()) else "clt"
    layout = replace(_GEMMA_LAYER, id=f"gemma_scope_2_{kind}")
    matches = [plan(layout, source, "", named=True) for source in sources]
    merged = _merge(layout.id, list(layers.values()), matches)
    beside = "" if config.present else ", without the config.json beside them"
    merged.why = f"params_layer_{{i}}.safetensors files of a Gemma Scope 2 {kind}{beside}"
    merged.threshold_tensor = "threshold"
    notes = Source(around, sources[0].file)
    notes.check_config(config)
    merged.findings = notes.findings + merged.findings
    if config.present:
        merged.files += ("config.json",)
    return merged


def _judge_gemma(_source: Source, _named: bool) -> Judgement:
    return Judgement(
        expected="unknown",
        expected_why="no document says which norm Gemma Scope 2 holds where a latent writes several sites",
        required=(("w_enc",), ("w_dec",), ("b_enc",), ("b_dec",), ("threshold",)),
        required_why="Gemma Scope 2's JumpReLU",
        zero_rows_legal=True,  # a latent has a row for every layer, and writes none before its own
        threshold="threshold",
        zero_allowed=(_AFFINE,),
    )


_GEMMA_LAYER = Layout(
    id="gemma_scope_2_clt",
    title="Gemma Scope 2 cross-layer transcoder or crosscoder",
    is_folder=True,
    weights=re.compile(r"params_layer_[0-9]{1,6}\.safetensors"),
    decoder="w_dec",
    shapes={
        "w_enc": "d_in d_sae",
        "w_dec": "d_sae sites d_out",
        "b_enc": "d_sae",
        "b_dec": "d_out",
        "threshold": "d_sae",
        _AFFINE: "d_in d_out",
    },
    recognise=lambda _source, _named: None,
    judge=_judge_gemma,
)


def _merge(layout: str, layers: Sequence[Sequence[Source]], matches: Sequence[Match]) -> Match:
    first = matches[0]
    return Match(
        layout=layout,
        is_folder=True,
        files=tuple(source.file.path for files in layers for source in files),
        decoders=[decoder for match in matches for decoder in match.decoders],
        expected=first.expected,
        expected_why=first.expected_why,
        trainer_order_explains_drift=False,
        why="",
        zero_allowed=frozenset().union(*(match.zero_allowed for match in matches)),
        findings=[finding for match in matches for finding in match.findings],
    )


SETS = (
    SetLayout(
        ids=("circuit_tracer_clt",),
        title="circuit-tracer cross-layer transcoder",
        member=_TRACER_MEMBER,
        plan=_plan_tracer,
    ),
    SetLayout(
        ids=("gemma_scope_2_clt", "gemma_scope_2_crosscoder"),
        title="Gemma Scope 2 cross-layer transcoder or crosscoder",
        member=re.compile(r"params_layer_(?P<layer>[0-9]{1,4})\.safetensors"),
        plan=_plan_gemma,
    ),
)
"""Every layout whose checkpoint is a set of files."""
