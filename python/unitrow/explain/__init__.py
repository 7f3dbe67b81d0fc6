"""What each finding and each verdict means, and what to do about it; nothing here needs a network.

    from unitrow import explain

    entry = explain.lookup("st_dup_name")
    print(explain.render(entry))

Texts are data, one module per family of codes.
"""

from __future__ import annotations

import re
import textwrap

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
from unitrow.explain.entry import Entry

__all__ = ["Entry", "codes", "lookup", "render", "table_markdown"]

_MODULES = (files, safetensors, names, index, archives, pickles, values, identity, layouts, norms, verdicts)


_QUOTED = re.compile(r"`[^`]*`")
_NO_BREAK = "\N{NO-BREAK SPACE}"


def _key(code: str) -> str:
    """Spellings that mean one code: case, surrounding space, hyphen or underscore do not matter."""
    return code.strip().upper().replace("-", "_").replace(" ", "_")


_ENTRIES: dict[str, Entry] = {_key(entry.code): entry for module in _MODULES for entry in module.ENTRIES}


def codes() -> tuple[str, ...]:
    """All codes of findings and all verdicts, sorted."""
    return tuple(sorted(entry.code for entry in _ENTRIES.values()))


def lookup(code: str) -> Entry:
    """The entry of a code or verdict; case, and hyphen or underscore, do not matter.

    Raises:
        KeyError: Nothing has this name. `args` are the name that was asked for, then codes that come close.
    """
    key = _key(code)
    try:
        return _ENTRIES[key]
    except KeyError:
        raise KeyError(code, *_close(key)) from None


def _close(key: str) -> list[str]:
    import difflib  # needed only when a code is misspelt

    begins = [known for known in sorted(_ENTRIES) if key and known.startswith(key)]
    similar = difflib.get_close_matches(key, _ENTRIES, n=3)
    return [_ENTRIES[known].code for known in dict.fromkeys(begins + similar)]


def render(entry: Entry, *, width: int = 88) -> str:
    """What `unitrow explain` prints: plain text, at most `width` columns wide, no newline at its end."""
    lines = [f"{entry.code} ({entry.severity or 'verdict'})", *_wrap(entry.title, width), ""]
    lines += _wrap(entry.meaning, width)
    lines += ["", "What to do", *_wrap(entry.action, width, indent="  ")]
    if entry.see:
        lines += ["", "See also"]
        for reference in entry.see:
            lines += _fill(reference, width, first="  ", rest="    ")
    return "\n".join(lines)


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        if lines:
            lines.append("")
        lines += _fill(paragraph, width, first=indent, rest=indent)
    return lines


def _fill(text: str, width: int, *, first: str, rest: str) -> list[str]:
    # Readers copy codes, options and commands: no line break inside a word or between backticks.
    kept = _QUOTED.sub(lambda match: match[0].replace(" ", _NO_BREAK), text)
    lines = textwrap.wrap(
        kept,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]


def table_markdown() -> str:
    """The page `docs/checks.md`: every code with severity and title, and how the exit code follows."""
    from unitrow.explain.page import markdown

    return markdown()
