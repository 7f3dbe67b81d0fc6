"""The exception tree that callers may rely on."""

from __future__ import annotations

import pickle

import pytest

import unitrow as ur
from unitrow import errors


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("FormatError", ValueError),
        ("IntegrityError", Exception),
        ("LayoutError", Exception),
        ("ArrayError", ValueError),
        ("ArrayTypeError", TypeError),
        ("ConfigError", ValueError),
        ("TrainingError", Exception),
    ],
)
def test_one_base_and_the_builtin_kind(name, builtin):
    error = getattr(errors, name)
    assert issubclass(error, errors.UnitrowError)
    assert issubclass(error, builtin)
    assert error.__doc__


def test_every_exported_error_is_public():
    assert set(errors.__all__) == {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }


def test_errors_travel_between_processes():
    try:
        ur.row_norms([1.0])
    except errors.ArrayTypeError as error:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert type(again) is errors.ArrayTypeError
        assert str(again) == str(error)
    else:
        pytest.fail("a list is no array")
