"""The page `docs/checks.md`, made from the catalogue and from the severity policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrow import findings
from unitrow.explain import (
    archives,
    files,
    identity,
    index,
    layouts,
    names,
    norms,
    pickles,
    safetensors,
    values,
    verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unitrow.explain.entry import Entry

_INTRODUCTION = """\
<!-- Made by unitrow.explain.table_markdown(); edit the texts in python/unitrow/explain instead. -->

# Checks and verdicts

`unitrow explain CODE` prints what a code means, what produces it and what to do, without a network. The
tables below list every code with its usual severity; where a rule can change the severity, the longer text
says how. The list is the whole vocabulary of reports, and a code keeps its meaning from version to version.
It includes codes whose check a given version does not make yet.

## Severities

| severity | meaning |
|---|---|
| `note` | worth knowing; nothing has to be done |
| `warn` | allowed or accepted by common loaders, and likely to mislead someone |
| `fail` | not what the format, the layout or `--expect` asks for |
| `unreadable` | could not be read or could not be decided, so nothing is claimed |

The `integrity` of a checkpoint is the worst severity among the codes FS, ST, X, Z, NPY, PT, V and H; it is
`pass` when there is none. The codes L, N and R say nothing about the bytes and never change it.

## Exit code

| exit code | when |
|---|---|
| 0 | none of the following |
| 1 | a finding is a `fail`, or with `--fail-on warn` a `warn` |
| 2 | wrong usage, or a path that does not exist |
| 3 | nothing was audited, or something that was asked for is `unreadable` or `undecided` |
| 4 | internal error |
| 130 | interrupted |

`--fail-on fail` is the default. `--fail-on never` turns 1 off, and 3 stays: what could not be decided never
looks clean. When both 1 and 3 apply, the exit code is 1. If the verdict of every checkpoint is `none`, the
exit code is 3. With `--expect any` the verdict `none` does not lead to 3, and `undecided` only does where
the integrity is `fail`. A `note` never changes the exit code, and `--select` and `--ignore` never turn 3
into 0.
"""

_POLICY = """\
## Severity by `--expect`

The severity of these codes depends on what rows are expected to be. `auto`, the default,
goes by what the trainer of the recognised layout does; a trainer that is not known counts as one that does
not keep rows unit. Under `auto`, drift that the order of the trainer's steps explains is a note.

| code | `unit` | `auto`, trainer keeps rows unit | `auto`, it does not | `any` |
|---|---|---|---|---|
"""

_VERDICTS = """\
## Verdicts

A verdict is about the decoder rows of a checkpoint. It has no severity of its own: the `N_` codes have.

| verdict | meaning |
|---|---|
"""

_SECTIONS = (
    ("Files (`FS_`)", files.ENTRIES),
    ("safetensors (`ST_`)", safetensors.ENTRIES + names.ENTRIES),
    ("Shard index (`X_`)", index.ENTRIES),
    ("Zip archives and numpy arrays (`Z_`, `NPY_`)", archives.ENTRIES),
    ("Torch files (`PT_`)", pickles.ENTRIES),
    ("Values (`V_`)", values.ENTRIES),
    ("Identity (`H_`)", identity.ENTRIES),
    ("Layouts (`L_`)", layouts.ENTRIES),
    ("Norms and rows (`N_`, `R_`)", norms.ENTRIES),
)


def markdown() -> str:
    """The whole page, ending with a newline."""
    parts = [_INTRODUCTION, _POLICY + _policy_rows()]
    parts += [f"## {title}\n\n{_table(entries)}" for title, entries in _SECTIONS]
    rows = "".join(f"| `{entry.code}` | {entry.title} |\n" for entry in verdicts.ENTRIES)
    parts.append(_VERDICTS + rows)
    return "\n".join(parts)


def _policy_rows() -> str:
    columns: tuple[tuple[findings.Expect, str], ...] = (
        ("unit", "yes"),
        ("auto", "yes"),
        ("auto", "no"),
        ("any", "no"),
    )
    rows = []
    for code in findings.policy_codes():
        words = [findings.severity_of(code, expect, expected) for expect, expected in columns]
        if len(set(words)) > 1:
            rows.append(f"| `{code}` | {' | '.join(words)} |\n")
    return "".join(rows)


def _table(entries: Iterable[Entry]) -> str:
    head = "| code | severity | meaning |\n|---|---|---|\n"
    return head + "".join(f"| `{entry.code}` | {entry.severity} | {entry.title} |\n" for entry in entries)
