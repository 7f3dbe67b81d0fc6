"""Which tensors of a checkpoint are decoders, and which of their axes holds the latents.

`recognise` turns file names, tensor names, shapes and configuration into a plan; no value is read.
A layout is one entry of `CATALOGUE`; docs/layouts.md describes them and says how to add one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrow.layouts import circuit_tracer, gemma_scope, generic, openmoss, others, saelens, sparsify
from unitrow.layouts.cross_layer import SETS, SetLayout
from unitrow.layouts.entry import Layout, plan
from unitrow.layouts.model import Decoder, FileMeta, Folder, LayoutFinding, Match, TensorMeta
from unitrow.layouts.source import Source, Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "CATALOGUE",
    "SETS",
    "Decoder",
    "FileMeta",
    "Folder",
    "Layout",
    "LayoutFinding",
    "Match",
    "SetLayout",
    "TensorMeta",
    "recognise",
]

CATALOGUE: tuple[Layout, ...] = (
    *gemma_scope.LAYOUTS,
    *sparsify.LAYOUTS,
    *openmoss.LAYOUTS,
    *others.LAYOUTS,
    *circuit_tracer.LAYOUTS,
    *saelens.LAYOUTS,
)
"""Every known layout; where two fit a file, the first one counts."""


def recognise(folder: Folder, files: Sequence[FileMeta]) -> list[Match]:
    """Turn the files of one folder into checkpoints.

    A file name that a layout's writer uses counts before tensor names alone, and both before a mere
    resemblance.

    Args:
        folder: The folder, for the names and the configuration beside the files.
        files: The files whose headers were read.

    Returns:
        The checkpoints in the order of their first file. Every file is in exactly one of them: in
        that of its layout, or in one of its own with layout `unknown` or `none`.
    """
    around = Surroundings(folder)
    sources = {file.path: Source(around, file) for file in files}
    matches = _sets(around, sources.values())
    taken = {path for match in matches for path in match.files}
    matches += [
        match
        for path, source in sources.items()
        if path not in taken and (match := _by_name(source)) is not None
    ]
    folders = [match for match in matches if match.is_folder]
    taken = {match.files[0] for match in matches}.union(*(match.files for match in folders))
    if len(folders) > 1:  # they cannot share one name
        for match in folders:
            match.is_folder = False
    for path, source in sources.items():
        if path not in taken:
            matches.append(_by_tensors(source) or generic.plan_unknown(source) or generic.plan_none(source))
    return sorted(matches, key=lambda match: match.files[0])


def _sets(around: Surroundings, sources: Iterable[Source]) -> list[Match]:
    found = (layout.gather(around, list(sources)) for layout in SETS)
    return [match for match in found if match is not None]


def _by_name(source: Source) -> Match | None:
    for layout in CATALOGUE:
        if layout.named(source):
            why = layout.recognise(source, True)
            if why is not None:
                return plan(layout, source, why, named=True)
    return None


def _by_tensors(source: Source) -> Match | None:
    for layout in CATALOGUE:
        why = layout.recognise(source, False)
        if why is not None:
            return plan(layout, source, why, named=False)
    return None
