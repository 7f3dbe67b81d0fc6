"""The table of docs/numerics.md that shows rows which torch, numpy and faiss get wrong is what they give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import unitrow as ur

torch = pytest.importorskip("torch")
faiss = pytest.importorskip("faiss")

pytestmark = pytest.mark.interop

LENGTH = 64
PAGE = Path(__file__).parents[2] / "docs" / "numerics.md"


def row(value: float, dtype: type, **places: float) -> np.ndarray:
    """One row of equal elements, but for those at the places ``at0``, ``at1``, ..."""
    x = np.full((1, LENGTH), value, dtype)
    for place, other in places.items():
        x[0, int(place.removeprefix("at"))] = other
    return x


ROWS = {
    "float32, all 1e20": row(1e20, np.float32),
    "float32, all 1e-30": row(1e-30, np.float32),
    "float32, all 1e-40 (subnormal)": row(1e-40, np.float32),
    "float32, all 0": row(0, np.float32),
    "float32, one Inf among 1": row(1, np.float32, at3=np.inf),
    "float16, all 300": row(300, np.float16),
    "float16, all 1e-4": row(1e-4, np.float16),
    "float16, all 0": row(0, np.float16),
    "float64, all 1e200": row(1e200, np.float64),
}


def torch_normalize(x: np.ndarray) -> np.ndarray:
    return torch.nn.functional.normalize(torch.from_numpy(x), dim=1).numpy()


def torch_divide(x: np.ndarray) -> np.ndarray:
    w = torch.from_numpy(x.copy())
    return w.div_(torch.linalg.vector_norm(w, dim=1, keepdim=True)).numpy()


def faiss_normalize(x: np.ndarray) -> np.ndarray | None:
    if x.dtype != np.float32:
        return None
    x = x.copy()
    faiss.normalize_L2(x)
    return x


def ours(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    ur.normalize_rows_(x)
    return x


def outcome(before: np.ndarray, after: np.ndarray | None) -> str:
    """In words, what became of a row."""
    if after is None:
        return "n/a"
    if np.array_equal(before, after):
        return "as it was"
    if np.isnan(after).any():
        return f"{int(np.isnan(after).sum())} NaN" + (", rest 0" if (after == 0).any() else "")
    if np.isinf(after).any():
        return "Inf"
    norm = float(ur.row_norms(after)[0])
    return "unit" if abs(norm - 1) < 1e-3 else f"norm {norm:.3g}"


def table() -> str:
    headings = ("row of 64", "norm", "torch", "numpy")
    headings += ("`ur.normalize_rows_`", "`F.normalize`", "`w /= norm`, torch", "faiss")
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    with np.errstate(all="ignore"):
        for name, x in ROWS.items():
            norms = (
                ur.row_norms(x)[0],
                torch.linalg.vector_norm(torch.from_numpy(x), dim=1)[0],
                np.linalg.norm(x, axis=1)[0],
            )
            after = [f(x) for f in (ours, torch_normalize, torch_divide, faiss_normalize)]
            cells = [f"{float(norm):.4g}" for norm in norms] + [outcome(x, y) for y in after]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_the_page_shows_what_the_libraries_give() -> None:
    assert table() in PAGE.read_text()


@pytest.mark.parametrize("name", [name for name, x in ROWS.items() if np.isfinite(x).all() and x.any()])
def test_ours_is_right_where_a_peer_is_not(name: str) -> None:
    x = ROWS[name]
    exact = 8 * float(x[0, 0])
    assert ur.row_norms(x)[0] == exact
    assert abs(ur.row_norms(ours(x))[0] - 1) < 2.0 ** -(10 if x.dtype == np.float16 else 23)
    peers = [torch_normalize(x), torch_divide(x), faiss_normalize(x)]
    wrong = [y is not None and abs(float(ur.row_norms(y)[0]) - 1) > 0.01 for y in peers]
    with np.errstate(all="ignore"):
        assert any(wrong) or float(np.linalg.norm(x, axis=1)[0]) != pytest.approx(exact, rel=1e-3)
