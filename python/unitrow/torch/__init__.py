"""Unit-norm decoders in torch: norms, projection, an optimizer. The only part of unitrow that imports torch.

    import unitrow.torch as urt

    urt.unit_norm_(sae.W_dec)                                   # now, in place
    handle = urt.UnitNorm(sae, "W_dec").attach(optimizer)       # after every step of any optimizer
    optimizer = urt.UnitNormAdam([sae.W_dec], lr=1e-3)          # or fused with Adam, at Adam's price on a CPU

CPU tensors go to the Rust kernels; other devices run torch operations with the same contract.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    msg = 'unitrow.torch needs torch: pip install "unitrow[torch]"'
    raise ImportError(msg) from error

from unitrow.torch._compat import (
    remove_gradient_parallel_to_decoder_directions,
    set_decoder_norm_to_unit_norm,
)
from unitrow.torch._constraint import Handle, UnitNorm
from unitrow.torch._ops import remove_parallel_, row_norms, unit_norm_
from unitrow.torch._optim import UnitNormAdam
from unitrow.transcoder.config import JumpReLUTranscoderConfig, TopKTranscoderConfig
from unitrow.transcoder.model import JumpReLUTranscoder
from unitrow.transcoder.topk import TopKTranscoder

if TYPE_CHECKING:
    from unitrow.training import Trainer, TrainerConfig

__all__ = [
    "Handle",
    "JumpReLUTranscoder",
    "JumpReLUTranscoderConfig",
    "TopKTranscoder",
    "TopKTranscoderConfig",
    "Trainer",
    "TrainerConfig",
    "UnitNorm",
    "UnitNormAdam",
    "remove_gradient_parallel_to_decoder_directions",
    "remove_parallel_",
    "row_norms",
    "set_decoder_norm_to_unit_norm",
    "unit_norm_",
]


def __getattr__(name: str) -> Any:
    if name not in {"Trainer", "TrainerConfig"}:
        msg = f"module 'unitrow.torch' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module("unitrow.training"), name)
