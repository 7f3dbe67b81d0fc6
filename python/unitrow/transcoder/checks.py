"""What configurations and inputs have to be like."""

from __future__ import annotations

import torch

from unitrow.errors import ArrayError, ArrayTypeError, ConfigError

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def check_sizes(config: object, *fields: str) -> None:
    """Refuse what counts no entries."""
    for name in fields:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a positive whole number, and is {value!r}")


def check_dtype(dtype: object) -> None:
    """Refuse what parameters cannot be computed in."""
    if dtype not in _DTYPES:
        names = ", ".join(str(known).removeprefix("torch.") for known in _DTYPES)
        raise ConfigError(f"dtype must be a torch.dtype out of {names}, and is {dtype!r}")


def check_rows(tensor: object, what: str, size: str, expected: int) -> None:
    """Refuse what does not hold rows of floating-point numbers of the right length.

    Args:
        tensor: The argument.
        what: Its name.
        size: Name of the length of a row.
        expected: The length.

    Raises:
        ArrayTypeError: Not a floating-point tensor.
        ArrayError: Rows of another length.
    """
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise ArrayTypeError(f"{what} must be a floating-point torch.Tensor, and is {kind}")
    if tensor.ndim == 0 or tensor.shape[-1] != expected:
        found = list(tensor.shape)
        raise ArrayError(f"{what} must have shape [..., {size} = {expected}], and has {found}")
