"""Are the decoder rows of a checkpoint unit vectors, how do we know, and are the bytes sound?

Everything here is loaded when it is first used: `import unitrow` pulls in neither numpy nor torch.

    import unitrow as ur

    report = ur.audit("saes/")
    with ur.open("params.safetensors") as checkpoint:
        checkpoint.decoders[0].row_norms()
    ur.row_norms(array)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unitrow._native import __version__
from unitrow.errors import FormatError, IntegrityError, JournalError, LayoutError, UnitrowError

if TYPE_CHECKING:
    from unitrow.arrays import normalize_rows_, remove_parallel_, row_norms
    from unitrow.auditing import audit
    from unitrow.reading import Checkpoint, open  # noqa: A004
    from unitrow.report import AuditReport

__all__ = [
    "AuditReport",
    "Checkpoint",
    "FormatError",
    "IntegrityError",
    "JournalError",
    "LayoutError",
    "UnitrowError",
    "__version__",
    "audit",
    "normalize_rows_",
    "open",
    "remove_parallel_",
    "row_norms",
]

_HOME = {
    "AuditReport": "unitrow.report",
    "Checkpoint": "unitrow.reading",
    "audit": "unitrow.auditing",
    "normalize_rows_": "unitrow.arrays",
    "open": "unitrow.reading",
    "remove_parallel_": "unitrow.arrays",
    "row_norms": "unitrow.arrays",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module 'unitrow' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
