"""What transcoders do with files: load, save, export."""

from __future__ import annotations

import json
import os
from typing import Any, Self

import torch
from torch import Tensor, nn

from unitrow import __version__, _native
from unitrow.atomic import write_atomically
from unitrow.errors import LayoutError
from unitrow.torch._bytes import parts
from unitrow.transcoder.config import JumpReLUTranscoderConfig, TopKTranscoderConfig
from unitrow.transcoder.stored import Stored, read

_CONFIG_FORMAT = "6.0.0"
"""Release of SAELens that gave `cfg.json` the form that is written here."""


class Loadable(nn.Module):
    """A module that files can be turned into."""

    @classmethod
    def load_from_disk(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Load from a file, or from a folder that holds just one transcoder.

        Args:
            path: SAELens' folder or a file of another layout; see docs/training.md for the list.
            device: Where the parameters go.
            dtype: Type of the parameters; that of the stored matrices by default.

        Raises:
            OSError: Something cannot be read; the subclass is the one that `open` would raise.
            FormatError: The bytes are not what their format demands.
            LayoutError: Not a transcoder of this kind, or one that contradicts itself.
        """
        config, state = cls._interpret(read(path), dtype)
        with torch.device("meta"):
            module = cls(config)
        module.load_state_dict(state, assign=True)
        return module.to(device)

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        path: str = "",
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        **download: Any,
    ) -> Self:
        """Load from a repository of the Hugging Face hub, or from its cache when there is no network.

        Args:
            repo_id: Such as `google/gemma-scope-2b-pt-transcoders`.
            path: The file or the folder inside it.
            revision: Branch, tag or commit.
            device: Where the parameters go.
            dtype: Type of the parameters; that of the stored matrices by default.
            **download: Passed to `huggingface_hub.snapshot_download`, such as `cache_dir` and
                `local_files_only`.

        Raises:
            ImportError: `huggingface_hub` is not installed.
            OSError: There is no such file, or it cannot be read or downloaded.
            FormatError: The bytes are not what their format demands.
            LayoutError: Not a transcoder of this kind, or one that contradicts itself.
        """
        from unitrow.transcoder.hub import fetch

        local = fetch(repo_id, path, revision=revision, **download)
        return cls.load_from_disk(local, device=device, dtype=dtype)

    @classmethod
    def _interpret(cls, stored: Stored, dtype: torch.dtype | None) -> tuple[Any, dict[str, Tensor]]:
        raise NotImplementedError


class TopKFiles(Loadable):
    """Loads sparsify's files."""

    cfg: TopKTranscoderConfig

    @classmethod
    def _interpret(
        cls, stored: Stored, dtype: torch.dtype | None
    ) -> tuple[TopKTranscoderConfig, dict[str, Tensor]]:
        if stored.k is None:
            raise stored.wrong("activation", "TopK", "JumpReLU or ReLU", "load it with JumpReLUTranscoder")
        config = TopKTranscoderConfig(
            **stored.sizes,
            k=stored.k,
            apply_b_dec_to_input=stored.apply_b_dec_to_input,
            skip="W_skip" in stored.tensors,
            dtype=dtype or stored.dtype,
        )
        return config, {name: tensor.to(config.dtype) for name, tensor in stored.tensors.items()}


class JumpReLUFiles(Loadable):
    """Loads every layout with JumpReLU or ReLU, and writes three."""

    cfg: JumpReLUTranscoderConfig

    def save_model(self, path: str | os.PathLike[str]) -> None:
        """Write `sae_weights.safetensors` and `cfg.json` into a folder, as SAELens reads them.

        Each file appears whole or not at all; the configuration is written last. The threshold keeps its own
        dtype, which no reader minds.

        Args:
            path: The folder; made if there is none.

        Raises:
            OSError: It cannot be written.
        """
        directory = os.fspath(path)
        text = json.dumps(self._saelens_config(), indent=2, allow_nan=False)
        os.makedirs(directory, exist_ok=True)
        weights = os.path.join(directory, "sae_weights.safetensors")
        _native.write_safetensors(weights, parts(self._tensors()), [])
        write_atomically(os.path.join(directory, "cfg.json"), text.encode())

    def to_circuit_tracer(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file as circuit-tracer reads it; a set has a `layer_{i}.safetensors` each.

        Raises:
            LayoutError: `d_in` and `d_out` differ, which that layout cannot express.
            OSError: It cannot be written.
        """
        self._refuse(path, "circuit-tracer", "d_out", self.cfg.d_in, self.cfg.d_out)
        tensors = self._tensors()
        tensors["W_enc"] = tensors["W_enc"].T
        tensors["activation_function.threshold"] = tensors.pop("threshold")
        _native.write_safetensors(os.fspath(path), parts(tensors), [])

    def to_gemma_scope(self, path: str | os.PathLike[str]) -> None:
        """Write one npz archive of float32 as Gemma Scope's are, usually called `params.npz`.

        Raises:
            LayoutError: There is a skip connection, which that layout cannot express.
            OSError: It cannot be written.
        """
        self._refuse(path, "Gemma Scope", "W_skip", "none", "none" if self.W_skip is None else "one")
        tensors = {name: tensor.float() for name, tensor in self._tensors().items()}
        _native.write_npz(os.fspath(path), parts(tensors))

    def _refuse(self, path: object, layout: str, what: str, expected: object, found: object) -> None:
        if expected != found:
            raise LayoutError(f"{path}: {what}: {layout} expects {expected}, found {found}")

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters by name. The last step of an optimizer may have left thresholds below 0."""
        tensors = {name: tensor.detach().cpu() for name, tensor in self.named_parameters()}
        tensors["threshold"] = tensors["threshold"].clamp(min=0)
        return tensors

    def _saelens_config(self) -> dict[str, Any]:
        cfg = self.cfg
        metadata = {
            "sae_lens_training_version": None,
            **cfg.metadata,
            "sae_lens_version": _CONFIG_FORMAT,
            "unitrow": {"version": __version__, "bandwidth": cfg.bandwidth, "ste_to_input": cfg.ste_to_input},
        }
        return {
            "architecture": "jumprelu_skip_transcoder" if cfg.skip else "jumprelu_transcoder",
            "d_in": cfg.d_in,
            "d_out": cfg.d_out,
            "d_sae": cfg.d_sae,
            "dtype": str(cfg.dtype).removeprefix("torch."),
            "device": "cpu",
            "apply_b_dec_to_input": False,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": metadata,
        }

    @classmethod
    def _interpret(
        cls, stored: Stored, dtype: torch.dtype | None
    ) -> tuple[JumpReLUTranscoderConfig, dict[str, Tensor]]:
        if stored.k is not None:
            found = f"TopK (k = {stored.k})"
            raise stored.wrong("activation", "JumpReLU or ReLU", found, "load it with TopKTranscoder")
        tensors = stored.tensors
        metadata = {key: value for key, value in stored.metadata.items() if key != "sae_lens_version"}
        known: dict[str, Any] = {**stored.sizes, **_training(metadata.pop("unitrow", None))}
        config = JumpReLUTranscoderConfig(
            **known,
            skip="W_skip" in tensors,
            dtype=dtype or stored.dtype,
            metadata=metadata,
        )
        thresholds = tensors.pop("threshold", torch.zeros(config.d_sae))  # ReLU has a threshold of zero
        if not (thresholds >= 0).all():
            found = f"{thresholds[~(thresholds >= 0)][0].item()}"
            raise stored.wrong("threshold", "0 or positive numbers", found)
        if stored.apply_b_dec_to_input:
            shift = tensors["b_dec"].double() @ tensors["W_enc"].double()
            tensors["b_enc"] = tensors["b_enc"].double() - shift
        state = {name: tensor.to(config.dtype) for name, tensor in tensors.items()}
        state["threshold"] = thresholds.to(torch.promote_types(config.dtype, torch.float32))
        return config, state


def _training(values: object) -> dict[str, Any]:
    """What the estimators need, if the file says it; it does not change what the transcoder computes."""
    kinds = {"bandwidth": (float, int), "ste_to_input": (bool,)}
    if not isinstance(values, dict):
        return {}
    known = {name: values[name] for name, kind in kinds.items() if type(values.get(name)) in kind}
    return known if known.get("bandwidth", 1) > 0 else {}
