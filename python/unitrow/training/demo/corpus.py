"""Text that every Python brings along: its own documentation."""

from __future__ import annotations

import ast
import os
import random
import sysconfig
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORTEST = 80
"""Docstrings have to be longer; the short ones say little."""

_LEFT_OUT = {"__pycache__", "dist-packages", "idlelib", "lib2to3", "site-packages", "test", "tests"}


def documents() -> list[str]:
    """The language reference as `help()` shows it and the docstrings of the standard library, shuffled.

    Each text once. The order is fixed, the texts are those of the Python that runs.
    """
    texts = [topics[name] for name in sorted(topics)]
    texts += (text for text in _docstrings(sysconfig.get_path("stdlib")) if len(text) > _SHORTEST)
    texts = list(dict.fromkeys(texts))
    random.Random(0).shuffle(texts)  # noqa: S311  (an order, not a secret)
    return texts


def _docstrings(folder: str) -> Iterator[str]:
    """Docstrings below a folder, in the order of the files' names; nothing is imported."""
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - _LEFT_OUT)
        for name in sorted(files):
            if name.endswith(".py"):
                with open(os.path.join(directory, name), "rb") as file:
                    yield from _docstrings_in(file.read())


def _docstrings_in(source: bytes) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""
