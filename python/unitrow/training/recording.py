"""Records what a part of a `transformers` model reads and writes, as shards to train on."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from unitrow.atomic import sync_folder
from unitrow.errors import ArrayError, ConfigError
from unitrow.torch._bytes import write_tensors
from unitrow.training.locks import LOCK, alone_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from torch.utils.hooks import RemovableHandle

_BATCHES_SORTED_TOGETHER = 16
_RECORDED = re.compile(
    r"recording-\d{5}\.tmp|activations-\d{5}-of-\d{5}\.safetensors|\.unitrow-.*\.incomplete"
)


@dataclass(frozen=True)
class Site:
    """Two modules of a model, by their paths in `named_modules()`."""

    source: str
    """Inputs are what this module reads, as its first argument."""

    target: str
    """Targets are what this module returns."""

    def __str__(self) -> str:
        return self.source if self.source == self.target else f"{self.source} -> {self.target}"


def mlp_site(model: nn.Module, layer: int) -> Site:
    """The MLP of a layer: from the tensor that enters it to what it adds to the residual stream.

    Knows BERT and its like, and LLaMA, Gemma and all that call the MLP `layers.{i}.mlp`. In BERT that is
    after the second dense layer, before dropout, residual sum and norm. Gemma 2 and 3 norm the MLP's output
    before they add it; the target is then after that norm, as in Gemma Scope. A norm's gain before the MLP
    is part of the inputs: nothing is folded.

    Args:
        model: The model.
        layer: Index of the layer, from 0.

    Raises:
        ConfigError: There is no such layer, or none that is known.
    """
    names = dict(model.named_modules())
    for name in names:
        if name.endswith(f"encoder.layer.{layer}") and f"{name}.intermediate.dense" in names:
            return Site(f"{name}.intermediate.dense", f"{name}.output.dense")
        if name.endswith(f"layers.{layer}") and f"{name}.mlp" in names:
            norm = f"{name}.post_feedforward_layernorm"
            return Site(f"{name}.mlp", norm if norm in names else f"{name}.mlp")
    raise ConfigError(
        f"layer: {type(model).__name__} has no layer {layer} with an MLP that is known here; give a Site"
    )


class Recorder:
    """Hooks on a site; a context manager, which removes them.

    The model runs until both modules have been seen for the first time, and no further: what comes after,
    such as the logits of a large vocabulary, is not computed.

    with Recorder(model, mlp_site(model, 3)) as recorder:
        inputs, targets = recorder(input_ids, attention_mask)
    """

    def __init__(self, model: nn.Module, site: Site) -> None:
        """Finds the modules.

        Raises:
            ConfigError: The model has no such module; the message lists names like it.
        """
        self._model = model
        self._source = _module(model, site.source)
        self._target = _module(model, site.target)
        self._site = site
        self._hooks: list[RemovableHandle] = []
        self._seen: dict[str, Any] = {}
        self._modes: list[tuple[nn.Module, bool]] = []

    def __enter__(self) -> Self:
        self._modes = [(module, module.training) for module in self._model.modules()]
        self._model.eval()
        self._hooks = [
            self._source.register_forward_pre_hook(self._before, with_kwargs=True),
            self._target.register_forward_hook(self._after),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._seen.clear()
        for module, training in self._modes:
            module.training = training

    @torch.inference_mode()
    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run the model on a batch.

        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), 0 on padding.

        Returns:
            Inputs, (batch, length, d_in), and targets, (batch, length, d_out), in the model's dtype.

        Raises:
            ConfigError: A module did not run, or gave no row for each token.
        """
        self._seen.clear()
        device = next(self._model.parameters()).device
        with contextlib.suppress(_BothSeen):
            self._model(input_ids=input_ids.to(device), attention_mask=attention_mask.to(device))
        return self._rows("source", input_ids), self._rows("target", input_ids)

    def _rows(self, field: str, input_ids: Tensor) -> Tensor:
        name = getattr(self._site, field)
        if field not in self._seen:
            raise ConfigError(f"site.{field}: module {name} did not run")
        tensor: Tensor = self._seen[field]
        found = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        expected = list(input_ids.shape)
        if not isinstance(found, list) or found[:-1] != expected:
            raise ConfigError(
                f"site.{field}: {name}: expected a tensor {[*expected, 'width']}, found {found}"
            )
        return tensor

    def _before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._see("source", args[0] if args else next(iter(kwargs.values()), None))

    def _after(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        self._see("target", output[0] if isinstance(output, tuple) else output)

    def _see(self, field: str, tensor: Any) -> None:
        self._seen.setdefault(field, tensor)
        if len(self._seen) == 2:
            raise _BothSeen


class _BothSeen(BaseException):
    """Ends a forward pass; no `Exception`, which code of a model may catch."""


def windows(tokenizer: Any, texts: Iterable[str], length: int = 256) -> Iterator[list[int]]:
    """Texts as token ids; a long text is cut into several windows.

    Args:
        tokenizer: A fast tokenizer of `transformers`.
        texts: The corpus.
        length: Most tokens of a window, the special ones that the tokenizer puts around it included.
    """
    for text in texts:
        cut = tokenizer(text, truncation=True, max_length=length, return_overflowing_tokens=True)
        yield from cut["input_ids"]


def record(
    model: nn.Module,
    tokenizer: Any,
    texts: Iterable[str],
    folder: str | os.PathLike[str],
    *,
    site: Site,
    max_tokens: int | None = None,
    length: int = 256,
    batch_tokens: int = 8192,
    shard_bytes: int = 2**28,
    dtype: torch.dtype = torch.float32,
    model_name: str = "",
    progress: Callable[[int], None] = lambda _tokens: None,
    first_position: bool = False,
) -> int:
    """Record the activations of a corpus into shards, without those of first and special tokens and padding.

    The first position of each window is left out whether the tokenizer puts a token there (BOS, [CLS]) or
    not: a causal model sees nothing but that token, and many park attention and very large activations there.
    So are, wherever they stand, all tokens that the tokenizer calls special: BOS, EOS, padding, and also
    separators, masks, unknown words and the marks of a chat.

    A shard is `activations-00000-of-000NN.safetensors` with `inputs` [tokens, d_in], `targets` [tokens,
    d_out] and, as metadata, `model`, `site` and the number of `tokens` in it. Windows of similar length are
    run together, so tokens of windows that follow each other may change places. The folder has either all
    shards or none: until it is whole it is called `folder.unfinished`, and what an interrupted recording left
    under that name is replaced.

    Args:
        model: A model of `transformers`, on any device.
        tokenizer: Its fast tokenizer.
        texts: The corpus.
        folder: Where the shards go; made if there is none.
        site: What is recorded; see `mlp_site`.
        max_tokens: How many tokens at most.
        length: Most tokens that the model sees at once; longer texts are cut into windows.
        batch_tokens: Tokens of a batch, padding included.
        shard_bytes: Most bytes of a shard, which is held in memory until it is written.
        dtype: What activations are stored in.
        model_name: For the metadata; the model's own name by default.
        progress: Called with the number of tokens so far.
        first_position: Whether to record the first position as well, where its token is not special: for
            encoders without a first token of their own.

    Returns:
        The number of tokens recorded.

    Raises:
        ConfigError: The site does not fit the model, there are no tokens to record, or another process is
            recording into the folder.
        ArrayError: An activation is NaN or infinite.
        FileExistsError: The folder is there, and not empty.
        OSError: A shard cannot be written.
    """
    name = model_name or str(getattr(getattr(model, "config", None), "name_or_path", ""))
    kept = _Kept(frozenset(tokenizer.all_special_ids), first_position)
    limit = sys.maxsize if max_tokens is None else max_tokens
    wanted = _enough(windows(tokenizer, texts, length), kept, limit)
    with _unfinished(os.fspath(folder)) as place, Recorder(model, site) as recorder:
        shards = _Shards(place, shard_bytes, {"model": name, "site": str(site)})
        for ids, mask in _batches(wanted, batch_tokens):
            where = mask.bool() & kept.of(ids)
            inputs, targets = (rows[where.to(rows.device)] for rows in recorder(ids, mask))
            left = limit - shards.tokens
            shards.add(inputs[:left].to("cpu", dtype), targets[:left].to("cpu", dtype))
            progress(shards.tokens)
        shards.finish()
    return shards.tokens


@dataclass(frozen=True)
class _Kept:
    """Which tokens of windows are recorded."""

    special: frozenset[int]
    first_position: bool

    def of(self, ids: Tensor) -> Tensor:
        """Ones where a token is, (windows, length)."""
        kept = ~torch.isin(ids, torch.tensor(sorted(self.special), dtype=ids.dtype))
        if not self.first_position:
            kept[:, 0] = False
        return kept


@contextlib.contextmanager
def _unfinished(folder: str) -> Iterator[str]:
    """A new folder beside one that is to be, which takes its name when everything has gone well."""
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise FileExistsError(f"{folder}: it is there already, and not empty")
    place = f"{folder.rstrip(os.sep)}.unfinished"
    with alone_in(place, "folder"):
        _empty(place)
        try:
            yield place
            os.unlink(os.path.join(place, LOCK))
            os.replace(place, folder)  # also in the place of an empty folder
            sync_folder(os.path.dirname(folder))
        except BaseException:
            with contextlib.suppress(OSError):  # what went wrong first is what the caller has to know
                _empty(place)
                os.unlink(os.path.join(place, LOCK))
                os.rmdir(place)
            raise


def _empty(place: str) -> None:
    """Deletes what a recording may have left, and nothing else."""
    for name in os.listdir(place):
        if _RECORDED.fullmatch(name):
            os.unlink(os.path.join(place, name))


class _Shards:
    """Writes shards under provisional names, as only the last one tells how many there are."""

    def __init__(self, folder: str, shard_bytes: int, metadata: dict[str, str]) -> None:
        self.tokens = 0
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._metadata = metadata
        self._written: list[str] = []
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._waiting_rows = 0

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        for what, rows in (("inputs", inputs), ("targets", targets)):
            if not rows.isfinite().all():
                raise ArrayError(f"{what}: NaN or Inf after {self.tokens} tokens, as {rows.dtype}")
        self.tokens += len(inputs)
        self._waiting.append((inputs, targets))
        self._waiting_rows += len(inputs)
        row_bytes = inputs.shape[1] * inputs.itemsize + targets.shape[1] * targets.itemsize
        full = max(1, self._shard_bytes // row_bytes)
        while self._waiting_rows >= full:
            self._write(full)

    def finish(self) -> None:
        if not self.tokens:
            raise ConfigError("texts: no tokens to record, special ones aside")
        if self._waiting_rows:
            self._write(self._waiting_rows)
        for number, path in enumerate(self._written):
            name = f"activations-{number:05d}-of-{len(self._written):05d}.safetensors"
            os.replace(path, os.path.join(self._folder, name))

    def _write(self, rows: int) -> None:
        inputs, targets = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        path = os.path.join(self._folder, f"recording-{len(self._written):05d}.tmp")
        self._written.append(path)
        tensors = {"inputs": inputs[:rows], "targets": targets[:rows]}
        write_tensors(path, tensors, {**self._metadata, "tokens": str(rows)})
        self._waiting = [(inputs[rows:], targets[rows:])]
        self._waiting_rows -= rows


def _enough(sequences: Iterable[list[int]], kept: _Kept, tokens: int) -> Iterator[list[int]]:
    """The first windows that together have that many tokens to record, or more."""
    for sequence in sequences:
        if tokens <= 0:
            return
        if sequence:
            tokens -= int(kept.of(torch.tensor([sequence])).sum())
            yield sequence


def _batches(sequences: Iterator[list[int]], batch_tokens: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids and attention mask, (batch, length) each, padded on the right."""
    while group := _take(sequences, _BATCHES_SORTED_TOGETHER * batch_tokens):
        group.sort(key=len)
        while group:
            # The last is the longest: a batch is as many as fit when all are padded to it.
            count = max(1, batch_tokens // len(group[-1]))
            batch, group = group[-count:], group[:-count]
            mask = torch.zeros(len(batch), len(batch[-1]), dtype=torch.long)
            ids = torch.zeros_like(mask)  # the mask hides whatever is in the padding
            for row, sequence in enumerate(batch):
                ids[row, : len(sequence)] = torch.tensor(sequence)
                mask[row, : len(sequence)] = 1
            yield ids, mask


def _take(sequences: Iterator[list[int]], tokens: int) -> list[list[int]]:
    taken: list[list[int]] = []
    for sequence in sequences:
        taken.append(sequence)
        tokens -= len(sequence)
        if tokens <= 0:
            break
    return taken


def _module(model: nn.Module, name: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if name in modules and name:
        return modules[name]
    last = name.rpartition(".")[2]
    alike = difflib.get_close_matches(name, modules, n=5, cutoff=0.7)
    same_end = islice((known for known in modules if last and known.endswith(f".{last}")), 3)
    near = list(dict.fromkeys([*alike, *same_end]))[:5] or [known for known, _ in model.named_children()]
    raise ConfigError(f"site: {type(model).__name__} has no module {name!r}; there are {', '.join(near)}")
