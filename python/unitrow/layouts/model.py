"""What a layout sees (folders, files, tensor headers) and what it answers (matches)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """One tensor as its header describes it."""

    name: str
    """Name in the file; untrusted text."""

    dtype: str
    """Element type by its safetensors name: `F32`, `BF16`, `I64`, ..."""

    shape: tuple[int, ...]
    """Extents, outermost first."""


@dataclass(frozen=True, slots=True)
class FileMeta:
    """One file whose header was read."""

    path: str
    """Path relative to its folder, with `/` separators."""

    container: str
    """`safetensors`, `npz`, `npy` or `unknown`."""

    tensors: tuple[TensorMeta, ...] = ()
    """The tensors that the header describes; the last `lost` of them cannot be read."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    """The container's own text metadata."""

    lost: int = 0
    """How many of the tensors the file is too short for."""


def _no_side_files(_name: str) -> bytes | None:
    return None


@dataclass(slots=True)
class Folder:
    """The folder that files stand in, with access to the small files beside them."""

    path: str
    """The path to show: relative to what the user named."""

    siblings: frozenset[str] = frozenset()
    """Names of all files directly in the folder, tensor files included."""

    read_text: Callable[[str], bytes | None] = _no_side_files
    """Bytes of a side file of this folder, at most 4 MiB of them, or None when it is absent.

    The name may start with `../`: one publisher keeps the configuration one folder up. May raise
    `OSError`; a layout turns that into a finding.
    """

    parts: tuple[str, ...] = ()
    """Names of the folder and the folders around it, outermost first.

    Evidence where a publisher keeps facts only in paths. When empty, `path` is split instead.
    """

    def names(self) -> tuple[str, ...]:
        """Return the folder names that path-derived evidence may come from."""
        return self.parts or tuple(part for part in self.path.split("/") if part)


@dataclass(slots=True)
class Decoder:
    """A decoder matrix, and which of its axes is which."""

    tensor: str
    """Tensor name."""

    file: str
    """File that holds it, relative to the folder."""

    latent_axis: int | None
    """Axis with one entry per latent; None when the evidence does not decide."""

    reduce_axis: int | None
    """Axis with one entry per written activation, over which a row's norm is taken."""

    zero_rows_legal: bool
    """Whether rows of zeros are a normal outcome of this layout's training."""

    why: str
    """The evidence for the axes, in one sentence."""


@dataclass(slots=True)
class LayoutFinding:
    """A disagreement that can be seen without reading values."""

    code: str
    """One of the `L_` codes; an `FS_` code for a configuration that could not be read."""

    file: str
    """File that the finding is about, relative to the folder."""

    tensor: str | None
    """Tensor that it is about, if it is about one."""

    expected: str | None
    """What should have been there."""

    found: str | None
    """What is there."""

    message: str
    """One sentence."""

    hint: str | None = None
    """What to do about it."""


@dataclass(slots=True)
class Match:
    """One checkpoint: the files it consists of, its decoders and what to expect of them."""

    layout: str
    """Id of the catalogue entry."""

    is_folder: bool
    """Whether the checkpoint is named after its folder; otherwise after `files[0]`."""

    files: tuple[str, ...]
    """Tensor files first, then the side files that belong to it."""

    decoders: list[Decoder]
    """Every decoder, in the order of the files."""

    expected: str
    """`yes`, `no` or `unknown`: does what made this checkpoint leave unit rows?"""

    expected_why: str
    """One sentence: what this trainer does about row norms, and how we know it was this trainer."""

    trainer_order_explains_drift: bool
    """Whether it saves after an optimiser step that no normalisation follows."""

    why: str
    """Why this layout was recognised."""

    threshold_tensor: str | None = None
    """Tensor of JumpReLU thresholds, none of which may be negative."""

    nan_allowed: frozenset[str] = frozenset()
    """Tensors in which NaN is a legal value."""

    zero_allowed: frozenset[str] = frozenset()
    """Tensors that may be zero throughout."""

    findings: list[LayoutFinding] = field(default_factory=list)
    """What can be said before any value is read."""
