"""The names that SAE training code calls today, so that a change of import is enough."""

from __future__ import annotations

from typing import Any

from unitrow.errors import ArrayTypeError
from unitrow.torch._ops import remove_parallel_, unit_norm_


def set_decoder_norm_to_unit_norm(module: Any, dim: int = -1) -> None:
    """Makes the rows of `module.W_dec` unit vectors in place.

    For `sae.set_decoder_norm_to_unit_norm()` of sparsify, dictionary_learning and early SAELens, but without
    the `norm + eps` that leaves rows short, and with rows kept that already are unit to rounding.

    Args:
        module: A module with a parameter `W_dec`, or a decoder weight itself.
        dim: The dimension that rows run along.

    Raises:
        ArrayTypeError: there is no `W_dec`.
    """
    unit_norm_(_decoder(module), dim)


def remove_gradient_parallel_to_decoder_directions(module: Any, dim: int = -1) -> None:
    """Removes from the gradient of `module.W_dec` the part along each row, in place.

    Args:
        module: A module with a parameter `W_dec`, or a decoder weight itself. Without a gradient nothing
            happens.
        dim: The dimension that rows run along.

    Raises:
        ArrayTypeError: there is no `W_dec`.
    """
    decoder = _decoder(module)
    if decoder.grad is not None:
        remove_parallel_(decoder.grad, decoder.detach(), dim)


def _decoder(module: Any) -> Any:
    decoder = getattr(module, "W_dec", module)
    if not hasattr(decoder, "grad"):
        msg = f"{type(module).__name__} has no W_dec, and is no tensor either"
        raise ArrayTypeError(msg)
    return decoder
