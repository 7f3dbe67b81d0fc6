"""JumpReLU transcoders: the model, and the files that other tools read. Needs torch.

    from unitrow.transcoder import JumpReLUTranscoder, JumpReLUTranscoderConfig

    transcoder = JumpReLUTranscoder(JumpReLUTranscoderConfig(d_in=384, d_out=384, d_sae=3072))
    transcoder.save_model("transcoder/")
    JumpReLUTranscoder.load_from_disk("transcoder/")

docs/training.md has the definition, the gradients and the layouts.
"""

from __future__ import annotations

import unitrow.torch  # noqa: F401  (first: it says what to install where torch is missing, and imports from here)
from unitrow.errors import ConfigError
from unitrow.transcoder.config import JumpReLUTranscoderConfig, TopKTranscoderConfig
from unitrow.transcoder.model import JumpReLUTranscoder
from unitrow.transcoder.topk import TopKTranscoder

__all__ = [
    "ConfigError",
    "JumpReLUTranscoder",
    "JumpReLUTranscoderConfig",
    "TopKTranscoder",
    "TopKTranscoderConfig",
]
