"""The operators' numbers: exact on every path, and the same on all."""

from __future__ import annotations

import math
import shutil

import pytest

torch = pytest.importorskip("torch")

import unitrow as ur  # noqa: E402
import unitrow.torch as urt  # noqa: E402
from unitrow.errors import ArrayError, ArrayTypeError  # noqa: E402
from unitrow.torch._dispatch import _force_torch  # noqa: E402

from .support import exact_norms, is_unit_to_rounding, limits  # noqa: E402

pytestmark = pytest.mark.torch

FLOAT32_UNIT = 2**-24
WIDE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
NARROW = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)


def tolerance(path):
    return FLOAT32_UNIT if path == "compensated" else 4 * 2**-52


@pytest.mark.parametrize("dtype", WIDE + NARROW)
@pytest.mark.parametrize("dim", [-1, 0])
def test_row_norms(path, dtype, dim):
    if path == "compensated" and dtype == torch.float64:
        pytest.skip("devices without float64 hold no float64 tensor")
    x = torch.randn(65, 130).to(dtype)
    found = urt.row_norms(x, dim)
    assert found.dtype == (torch.float32 if path == "compensated" else torch.float64)
    error = (found.double() / exact_norms(x.float() if dtype in NARROW else x, dim) - 1).abs().max()
    assert error <= tolerance(path)


@pytest.mark.parametrize("scale", [1e20, 1e-40, 3e38])
def test_row_norms_where_float32_sums_overflow_or_vanish(path, scale):
    x = torch.tensor([[3.0, 4.0]]) * scale / 4
    expected = math.hypot(*(float(value) for value in x[0]))
    assert float(urt.row_norms(x)) == pytest.approx(expected, rel=tolerance(path))


def test_row_norms_of_float64_beyond_its_squares():
    x = torch.tensor([[3e200, 4e200], [3e-200, 4e-200], [3e-320, 4e-320], [0, 0]], dtype=torch.float64)
    for context in (_force_torch,):
        with context():
            found = urt.row_norms(x)
    expected = torch.tensor([5e200, 5e-200, math.hypot(3e-320, 4e-320), 0], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)
    torch.testing.assert_close(urt.row_norms(x), found, rtol=1e-15, atol=0)


def test_row_norms_of_special_rows(path):
    inf, nan = math.inf, math.nan
    x = torch.tensor([[1, inf], [-inf, 2], [nan, 1], [nan, inf], [0, -0.0]])
    found = urt.row_norms(x)
    assert found[:2].tolist() == [inf, inf]
    assert found[2:4].isnan().all()
    assert found[4] == 0
    assert path


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (3,), (2, 3, 4), (1, 1)])
def test_shapes(path, shape):
    x = torch.randn(shape)
    for dim in range(-x.ndim, x.ndim):
        torch.testing.assert_close(urt.row_norms(x, dim).double(), exact_norms(x, dim), rtol=1e-6, atol=0)
    assert urt.unit_norm_(x.clone(), 0).shape == x.shape
    assert path


def test_row_norms_has_a_gradient(path):
    if path == "compensated":
        pytest.skip("devices without float64 hold no float64 tensor")
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(urt.row_norms, (x, -1))
    zero = torch.zeros(2, 3, requires_grad=True)
    urt.row_norms(zero).sum().backward()
    assert torch.equal(zero.grad, torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", WIDE + NARROW)
@pytest.mark.parametrize("dim", [-1, 0])
def test_unit_norm_leaves_every_row_within_its_rounding_bound(path, dtype, dim):
    if path == "compensated" and dtype == torch.float64:
        pytest.skip("devices without float64 hold no float64 tensor")
    w = torch.randn(200, 70).mul(7).to(dtype)
    assert urt.unit_norm_(w, dim) is w
    assert is_unit_to_rounding(w, dim).all()
    once = w.double()
    urt.unit_norm_(w, dim)
    assert torch.equal(w.double(), once), "a second call must change nothing"


def test_unit_norm_keeps_rows_that_are_unit_to_rounding(path):
    w = torch.nn.functional.normalize(torch.randn(500, 64).double(), dim=-1).float()
    before = w.clone()
    urt.unit_norm_(w)
    assert torch.equal(w, before)
    assert path


def test_unit_norm_of_rows_without_direction(path):
    w = torch.tensor([[0.0, 0], [3, 4], [math.nan, 1], [math.inf, 1]])
    urt.unit_norm_(w)
    expected = torch.tensor([[0.0, 0], [0.6, 0.8], [math.nan, 1], [math.inf, 1]])
    torch.testing.assert_close(w, expected, equal_nan=True, rtol=0, atol=0)
    fresh = torch.tensor([[3.0, 4], [0, 0], [math.nan, 1]])
    before = fresh.clone()
    with pytest.raises(ArrayError, match="1 zero rows and 1 rows with NaN or Inf"):
        urt.unit_norm_(fresh, on_degenerate="raise")
    torch.testing.assert_close(fresh, before, equal_nan=True, rtol=0, atol=0)
    with pytest.raises(ArrayError, match="'keep' or 'raise'"):
        urt.unit_norm_(fresh, on_degenerate="drop")
    assert path


def test_unit_norm_where_float32_sums_overflow_or_vanish(path):
    # F.normalize gives zeros for the first row and leaves the second at a norm of 1e-8.
    w = torch.tensor([[3e20, 4e20], [3e-20, 4e-20]])
    urt.unit_norm_(w)
    torch.testing.assert_close(w, torch.tensor([[0.6, 0.8]] * 2), rtol=0, atol=0)
    assert path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_paths_agree_bit_for_bit(dtype):
    w = torch.randn(300, 200).to(dtype)
    grad = torch.randn(300, 200).to(dtype)
    ours, theirs = w.clone(), w.clone()
    urt.unit_norm_(ours)
    ours_grad, theirs_grad = grad.clone(), grad.clone()
    urt.remove_parallel_(ours_grad, w)
    with _force_torch():
        urt.unit_norm_(theirs)
        urt.remove_parallel_(theirs_grad, w)
    assert (ours != theirs).sum() <= 1, "the last bit of float64 may show once in 2^29 roundings"
    torch.testing.assert_close(ours_grad, theirs_grad, rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler for the CPU")
@pytest.mark.parametrize(("dtype", "dim"), [(torch.float32, -1), (torch.float32, 0), (torch.bfloat16, 0)])
def test_compiled_operations_give_the_same_bits(dtype, dim):
    # What a compiler may make of double roundings and of sums decides whether this holds.
    w = torch.randn(300, 200).mul(torch.logspace(-3, 3, 300)[:, None]).to(dtype)
    w[:3] = torch.tensor([0.0, torch.nan, torch.inf])[:, None]
    grad = torch.randn(300, 200).to(dtype)
    results = []
    for compiled in (False, True):
        ours, ours_grad = w.clone(), grad.clone()
        versions = ours._version, ours_grad._version
        with _force_torch():
            urt.unit_norm_(ours, dim, compiled=compiled)
            urt.remove_parallel_(ours_grad, w, dim, compiled=compiled)
            assert versions[0] < ours._version
            assert versions[1] < ours_grad._version
            results.append((ours, ours_grad))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", WIDE + NARROW)
def test_formats_are_what_their_codes_say(dtype):
    # torch 2.11 gives float8_e5m2fnuz half its eps, so that rows within their bound were divided once more.
    from unitrow.torch._reference import _LAYOUTS

    bias, fraction_bits = _LAYOUTS[dtype]
    assert limits(dtype) == (2.0**-fraction_bits, 2.0 ** (1 - bias))


@pytest.mark.parametrize("dtype", WIDE)
def test_remove_parallel_is_exact_for_rows_of_any_norm(path, dtype):
    if path == "compensated" and dtype == torch.float64:
        pytest.skip("devices without float64 hold no float64 tensor")
    rows = (torch.randn(50, 33) * torch.logspace(-2, 2, 50)[:, None]).to(dtype)
    grad = torch.randn(50, 33).to(dtype)
    r, g = rows.double(), grad.double()
    expected = g - (g * r).sum(-1, keepdim=True) / (r * r).sum(-1, keepdim=True) * r
    assert urt.remove_parallel_(grad, rows) is grad
    unit = torch.finfo(dtype).eps
    assert ((grad.double() - expected).abs() <= unit * (expected.abs() + g.abs().amax())).all()
    if dtype == torch.float64:
        assert ((grad * rows).sum(-1).abs() <= 1e-12 * rows.norm(dim=-1)).all()


def test_remove_parallel_leaves_gradients_of_rows_without_direction(path):
    rows = torch.tensor([[0.0, 0], [math.inf, 1], [1, 0]])
    grad = torch.ones(3, 2)
    urt.remove_parallel_(grad, rows)
    assert grad.tolist() == [[1, 1], [1, 1], [0, 1]]
    assert path


def test_other_dims_and_ranks(path):
    w = torch.randn(4, 5, 6)
    for dim in (0, 1, 2, -1, -2, -3):
        moved = w.clone()
        urt.unit_norm_(moved, dim)
        torch.testing.assert_close(
            exact_norms(moved, dim), torch.ones(1).double().expand_as(exact_norms(moved, dim))
        )
        strided = w.clone().transpose(0, 2)
        urt.unit_norm_(strided, 2 - dim % 3)
        assert torch.equal(strided.transpose(0, 2), moved)
    assert path


def test_large_tensors_go_piece_by_piece(monkeypatch):
    from unitrow.torch import _reference

    w, grad = torch.randn(7, 11, 13), torch.randn(7, 11, 13)
    with _force_torch():
        whole = urt.unit_norm_(w.clone())
        whole_grad = urt.remove_parallel_(grad.clone(), w)
        for piece in (1, 20, 150, 400):
            monkeypatch.setattr(_reference, "_PIECE", piece)
            assert torch.equal(urt.unit_norm_(w.clone()), whole)
            assert torch.equal(urt.remove_parallel_(grad.clone(), w), whole_grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, *NARROW])
def test_float64_is_rounded_once(dtype):
    # Just above and below the midpoint of two neighbours, by less than float32 can tell: rounding by way of
    # float32 makes ties of both, and sends one of them the wrong way.
    from unitrow.torch._reference import _rounded_once

    low = torch.rand(2000).add(0.1).to(dtype)
    bits = low.view(torch.int16 if dtype.itemsize == 2 else torch.int8)
    high = (bits + 1).view(dtype)
    middle = (low.double() + high.double()) / 2
    assert torch.equal(_rounded_once(middle * (1 - 2.0**-40), dtype).double(), low.double())
    assert torch.equal(_rounded_once(middle * (1 + 2.0**-40), dtype).double(), high.double())
    assert torch.equal(_rounded_once(-middle * (1 + 2.0**-40), dtype).double(), -high.double())
    special = torch.tensor([0.0, torch.inf, torch.nan, 1.0], dtype=torch.float64)
    expected = special.float().to(dtype).double()
    torch.testing.assert_close(_rounded_once(special, dtype).double(), expected, equal_nan=True)


def test_the_compensated_path_holds_no_float64():
    # MPS raises at the first float64 tensor, and no MPS device is at hand.
    from torch.utils._python_dispatch import TorchDispatchMode

    from unitrow.torch import _reference

    class NoFloat64(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for value in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                    pytest.fail(f"{func} made float64")
            return result

    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn):
        w, grad = torch.randn(9, 13).to(dtype), torch.randn(9, 13).to(dtype)
        with NoFloat64():
            assert _reference.row_norms(w, -1, compensated=True).dtype == torch.float32
            _reference.unit_norm_(w, 0, "raise", compensated=True)
            _reference.remove_parallel_(grad, w, -1, compensated=True)
            _reference.row_norms(w[:, :0], -1, compensated=True)


def test_compensated_norms_are_nearly_always_rounded_right():
    # A plain float32 sum of 65,536 squares is off by tens of units in the last place.
    x = torch.randn(64, 65536)
    with _force_torch(compensated=True):
        found = urt.row_norms(x)
    exact = exact_norms(x)
    assert (found.double() - exact).abs().div(exact).max() <= FLOAT32_UNIT
    assert (found == exact.float()).float().mean() > 0.95


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="the bits of torch's norms are known for x86 with AVX2 or better",
)
@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("shape", [(64, 384), (64, 2304), (7, 100), (5, 1), (3, 65)])
def test_compat_gives_the_bits_of_torch(dtype, shape):
    w = torch.randn(shape).mul(3).to(dtype)
    w[0] = 0
    w[1] *= 1e-13
    expected = torch.nn.functional.normalize(w, dim=-1)
    ur.normalize_rows_(w, compat="torch")
    torch.testing.assert_close(w, expected, rtol=0, atol=0, equal_nan=True)


def test_compat_has_no_float8():
    with pytest.raises(ArrayTypeError, match="as torch does"):
        ur.normalize_rows_(torch.ones(2, 3).to(torch.float8_e4m3fn), compat="torch")


@pytest.mark.parametrize("dim", [-1, 0])
def test_unit_norm_of_float64_beyond_its_squares(dim):
    # What a GPU runs kept such rows as they were: an infinite excess is not within an infinite bound.
    w = torch.tensor(
        [[3e200, 4e200], [3e-200, 4e-200], [3e-320, 4e-320], [3e160, 4e160]], dtype=torch.float64
    )
    w = w if dim == -1 else w.T.contiguous()
    expected = torch.tensor([0.6, 0.8], dtype=torch.float64).expand(4, 2)
    with _force_torch():
        found = urt.unit_norm_(w.clone(), dim)
        # 3e-320 itself has four digits.
        torch.testing.assert_close(found if dim == -1 else found.T, expected, rtol=1e-3, atol=0)
        assert is_unit_to_rounding(found, dim).all()
        assert torch.equal(urt.unit_norm_(found.clone(), dim), found)
    torch.testing.assert_close(found, urt.unit_norm_(w.clone(), dim), rtol=2**-52, atol=0)


@pytest.mark.parametrize("length", [384, 2304, 16384])
def test_unit_norm_of_long_float64_rows_is_done_once(length):
    # Running sums of rows this long were off by more than the bound allows for, and rows were divided again.
    w = torch.randn(length, 500, dtype=torch.float64)
    with _force_torch():
        once = urt.unit_norm_(w, 0).clone()
        assert torch.equal(urt.unit_norm_(w, 0), once)


def test_remove_parallel_to_float64_rows_beyond_their_squares():
    rows = torch.tensor([[3e200, 4e200], [3e-200, 4e-200], [3e-320, 4e-320]], dtype=torch.float64)
    grad = torch.tensor([[1.0, 2.0]] * 3, dtype=torch.float64)
    with _force_torch():
        found = urt.remove_parallel_(grad.clone(), rows)
    torch.testing.assert_close(found, urt.remove_parallel_(grad.clone(), rows), rtol=1e-12, atol=1e-15)


def test_float32_rows_that_the_step_may_leave_stay_on_both_paths():
    # A squared norm 2^-46 beyond the rounding of the elements: less than the step's division may add.
    t = torch.tensor(2**-11.5)
    while float(t) ** 2 - 2**-23 - float(t) * 2**-35 < 2**-48:
        t = torch.nextafter(t, torch.tensor(1.0))
    row = torch.stack([torch.tensor(1.0), t])[None]
    assert float(t) ** 2 - 2**-23 - float(t) * 2**-35 < 0.9 * 2**-45
    assert torch.equal(urt.unit_norm_(row.clone()), row)
    with _force_torch():
        assert torch.equal(urt.unit_norm_(row.clone()), row)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dim", [None, 0.0, (0, 1)])
def test_a_dimension_is_one_int(dim):
    x = torch.randn(3, 4)
    with pytest.raises(ArrayTypeError, match="dim must be one int"):
        urt.row_norms(x, dim)
    with pytest.raises(ArrayTypeError, match="dim must be one int"):
        urt.unit_norm_(x, dim)
    with pytest.raises(ArrayTypeError, match="dim must be one int"):
        urt.remove_parallel_(x, x.clone(), dim)
