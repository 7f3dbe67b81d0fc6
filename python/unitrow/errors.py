"""The exceptions that unitrow raises on purpose; `except UnitrowError` catches them all.

A corrupt file in an audit is a finding, not an exception. Exceptions are for the caller's own input: an
array that cannot be measured, a file that was opened by name and cannot be read as what it claims to be.
A file that the operating system refuses raises the `OSError` subclass that `open` would raise, with
`filename` set, and is not a `UnitrowError`.
"""

from __future__ import annotations

__all__ = [
    "ArrayError",
    "ArrayTypeError",
    "ConfigError",
    "FormatError",
    "IntegrityError",
    "JournalError",
    "LayoutError",
    "TrainingError",
    "UnitrowError",
]


class UnitrowError(Exception):
    """Base of every exception defined by unitrow."""


class FormatError(UnitrowError, ValueError):
    """A file's bytes do not follow the rules of the format that they claim to have."""


class IntegrityError(UnitrowError):
    """Bytes, digests or a manifest contradict each other, or a file changed while it was read."""


class JournalError(UnitrowError):
    """The journal of an audit is none, belongs to another audit, or cannot be written."""


class LayoutError(UnitrowError):
    """Sound tensors that do not make up a decoder: an unknown layout, a missing tensor, no clear axis."""


class ArrayError(UnitrowError, ValueError):
    """An array of a usable kind in an unusable state.

    Rank 0, an axis out of range, read-only or overlapping memory for in-place work, a gradient that would be
    lost, a row that cannot be normalised though the caller asked to be told.
    """


class ArrayTypeError(UnitrowError, TypeError):
    """An object that is no array, or an array of a dtype, layout or device that cannot be measured here."""


class ConfigError(UnitrowError, ValueError):
    """A configuration with a field that cannot be as it is; the message begins with its name."""


class TrainingError(UnitrowError):
    """A training run that cannot go on: a loss or gradient that is not finite, data that ended."""
