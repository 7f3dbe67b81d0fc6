"""One entry of the catalogue, and the helper that its data modules are written with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """What a finding or a verdict means.

    Attributes:
        code: Code of a finding such as `ST_HOLE`, or a verdict such as `unit-eps`.
        severity: The usual severity, `fail`, `warn`, `note` or `unreadable`; empty for a verdict. Where a
            rule can change it, `meaning` says how.
        title: One line, lower-case start, no full stop.
        meaning: What was found, why it matters, what produces it. Paragraphs stand one blank line apart.
        action: What to do about it. Paragraphs as in `meaning`.
        see: Format rules, papers and public issues (`safetensors#748`).
    """

    code: str
    severity: str
    title: str
    meaning: str
    action: str
    see: tuple[str, ...] = ()


def entry(code: str, severity: str, title: str, meaning: str, action: str, *see: str) -> Entry:
    """Make an entry from text that is wrapped and indented as the source needs it."""
    return Entry(code, severity, title, _paragraphs(meaning), _paragraphs(action), see)


def _paragraphs(text: str) -> str:
    """Each paragraph on one line, one blank line between two."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
