"""One file as a layout looks at it: its tensors by name, the configuration beside it, its findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrow.layouts.axis import Length
from unitrow.layouts.config import Config, excerpt, read_json, read_yaml
from unitrow.layouts.model import LayoutFinding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unitrow.layouts.model import FileMeta, Folder, TensorMeta

_MATRIX = 2

NORM_DTYPES = frozenset(
    {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"},
)
"""Element types whose rows have a norm."""


class Surroundings:
    """A folder whose configuration files are read once, however many files ask for them."""

    __slots__ = ("_configs", "folder")

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._configs: dict[str, Config] = {}

    def json(self, name: str) -> Config:
        """Return a JSON file of the folder."""
        return self._config(name, read_json)

    def yaml(self, name: str) -> Config:
        """Return a YAML file of the folder."""
        return self._config(name, read_yaml)

    def _config(self, name: str, read: Callable[[Folder, str], Config]) -> Config:
        config = self._configs.get(name)
        if config is None:
            # A listing that lacks the name spares the attempt to open it.
            listed = bool(self.folder.siblings) and not name.startswith("../")
            absent = listed and name not in self.folder.siblings
            config = Config(name) if absent else read(self.folder, name)
            self._configs[name] = config
        return config


class Source:
    """One tensor file under examination."""

    __slots__ = ("around", "file", "findings", "name", "tensors")

    def __init__(self, around: Surroundings, file: FileMeta) -> None:
        self.around = around
        self.file = file
        self.name = file.path.rsplit("/", 1)[-1]
        self.tensors: dict[str, TensorMeta] = {tensor.name: tensor for tensor in file.tensors}
        self.findings: list[LayoutFinding] = []

    @property
    def folder(self) -> Folder:
        """The folder that the file stands in."""
        return self.around.folder

    def has(self, *names: str) -> bool:
        """Whether every one of these tensors is there."""
        return all(name in self.tensors for name in names)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return a tensor's shape, None when it is absent."""
        tensor = self.tensors.get(name)
        return None if tensor is None else tensor.shape

    def length(self, name: str) -> int | None:
        """Return the length of a 1-D tensor, None when it is absent or has other axes."""
        shape = self.shape(name)
        return shape[0] if shape is not None and len(shape) == 1 else None

    def lengths(self, names: Iterable[str]) -> tuple[Length, ...]:
        """Return the lengths of those of these tensors that are 1-D."""
        found = ((name, self.length(name)) for name in names)
        return tuple(Length(name, value) for name, value in found if value is not None)

    def other_extent(self, name: str, extent: int | None) -> int | None:
        """Return the extent of a matrix beside the given one, None when there is no such pair."""
        shape = self.shape(name)
        if shape is None or len(shape) != _MATRIX or extent not in shape:
            return None
        return shape[1] if shape[0] == extent else shape[0]

    def mismatch(
        self,
        message: str,
        *,
        file: str | None = None,
        tensor: str | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        """Note that configuration and weights, or the weights among themselves, disagree."""
        self._note(
            "L_CONFIG_MISMATCH", message, file=file, tensor=tensor, expected=expected, found=found, hint=hint
        )

    def missing(self, tensor: str, expected: str, message: str, hint: str | None = None) -> None:
        """Note that a tensor is absent which the layout needs."""
        self._note("L_MISSING_TENSOR", message, tensor=tensor, expected=expected, found="absent", hint=hint)

    def note(self, code: str, message: str, *, tensor: str | None = None, hint: str | None = None) -> None:
        """Note something that has neither an expected nor a found value."""
        self._note(code, message, tensor=tensor, hint=hint)

    def check_config(self, config: Config) -> None:
        """Note what is wrong with a configuration file as such."""
        if config.problem is not None:
            self._note(
                config.unread or "L_CONFIG_MISMATCH",
                f"{config.name} cannot be used: {config.problem}",
                file=config.name,
                expected="a readable configuration",
                found=config.problem,
                hint="the weights are judged by their tensors alone",
            )
        if config.duplicates:
            keys = ", ".join(excerpt(key) for key in config.duplicates[:3])
            self.mismatch(
                f"{config.name} has keys that stand in it twice: {keys}",
                file=config.name,
                expected="each key once",
                found=keys,
                hint="readers disagree about which value counts; the last one is used here",
            )

    def _note(
        self,
        code: str,
        message: str,
        *,
        file: str | None = None,
        tensor: str | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        self.findings.append(
            LayoutFinding(
                code=code,
                file=self.file.path if file is None else file,
                tensor=tensor,
                expected=None if expected is None else str(expected),
                found=None if found is None else str(found),
                message=message,
                hint=hint,
            )
        )
