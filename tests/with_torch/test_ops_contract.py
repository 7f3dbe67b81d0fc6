"""The operators as torch sees them: visible to autograd, whole under torch.compile, typed refusals."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import unitrow as ur  # noqa: E402
import unitrow.torch as urt  # noqa: E402
from unitrow.errors import ArrayError, ArrayTypeError  # noqa: E402

from .support import exact_norms, is_unit_to_rounding  # noqa: E402

pytestmark = pytest.mark.torch

WIDE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


# Autograd


def test_parameters_are_changed_as_initialisers_change_them(path):
    w = torch.nn.Parameter(torch.randn(3, 4))
    assert urt.unit_norm_(w) is w
    assert w.grad_fn is None
    assert path


def test_recorded_results_are_refused(path):
    w = torch.randn(3, 4, requires_grad=True) * 2
    with pytest.raises(ArrayError, match="computed by autograd"):
        urt.unit_norm_(w)
    assert path


def test_stale_tensors_are_noticed(path):
    w = torch.nn.Parameter(torch.randn(3, 4))
    loss = (w * w).sum()
    urt.unit_norm_(w)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert path


def test_array_functions_on_tensors():
    w = torch.nn.Parameter(torch.randn(3, 4))
    np.testing.assert_allclose(ur.row_norms(w), exact_norms(w).numpy(), rtol=1e-15)
    with pytest.raises(ArrayError, match="requires grad"):
        ur.normalize_rows_(w)
    loss = (w * w).sum()
    with torch.no_grad():
        ur.normalize_rows_(w)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    ur.normalize_rows_(w.detach())


@pytest.mark.parametrize("versioned", [True, False])
def test_array_functions_on_tensors_of_an_older_torch(versioned):
    # Before 2.10 there was no table of C functions, and before 2.8 no versioned capsule.
    class Older(torch.Tensor):
        __dlpack_c_exchange_api__ = None

        def __dlpack__(self, **kwargs):
            if kwargs and not versioned:
                raise TypeError
            return super().__dlpack__(**kwargs)

    w = torch.randn(3, 4).as_subclass(Older).requires_grad_()
    np.testing.assert_allclose(ur.row_norms(w), exact_norms(w).numpy(), rtol=1e-15)
    version = w._version
    with torch.no_grad():
        ur.normalize_rows_(w)
    assert w._version > version
    np.testing.assert_allclose(ur.row_norms(w), 1, rtol=1e-7)
    with pytest.raises(ArrayError, match="requires grad"):
        ur.normalize_rows_(w)


# torch.compile and the operator contract


def samples():
    w, grad = torch.randn(5, 6), torch.randn(5, 6)
    ops = torch.ops.unitrow
    yield ops.row_norms.default, (w, -1)
    yield ops.row_norms.default, (w.clone().requires_grad_(), 0)
    yield ops.row_norms.default, (torch.randn(2, 3, 4, dtype=torch.bfloat16), 1)
    yield ops.unit_norm_.default, (w, -1, "keep")
    yield ops.unit_norm_.default, (w.to(torch.float16).T, 0, "keep")
    yield ops.remove_parallel_.default, (grad, w, -1)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck looks at it
@pytest.mark.parametrize("sample", range(6))
def test_opcheck(path, sample):
    op, args = list(samples())[sample]
    torch.library.opcheck(op, args)
    assert path


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile_keeps_one_graph(path, backend):
    def step(w, grad):
        urt.remove_parallel_(grad, w)
        w = w - 0.1 * grad
        urt.unit_norm_(w)
        return w, urt.row_norms(w)

    compiled = torch.compile(step, fullgraph=True, backend=backend)
    w, grad = torch.randn(5, 6), torch.randn(5, 6)
    expected, expected_norms = step(w.clone(), grad.clone())
    found, norms = compiled(w.clone(), grad.clone())
    assert torch.equal(found, expected)
    assert torch.equal(norms, expected_norms)
    assert path


def test_compile_of_a_parameter_in_place():
    w = torch.nn.Parameter(torch.randn(5, 6))
    expected = urt.unit_norm_(w.detach().clone())
    torch.compile(lambda: urt.unit_norm_(w), fullgraph=True, backend="aot_eager")()
    assert torch.equal(w, expected)


def test_fake_tensors_get_shapes():
    with torch._subclasses.FakeTensorMode():
        x = torch.empty(3, 4, 5)
        assert urt.row_norms(x, 1).shape == (3, 5)
        assert urt.row_norms(x).dtype == torch.float64
        assert urt.unit_norm_(x) is x
    assert urt.row_norms(torch.empty(3, 4, device="meta")).shape == (3,)


# Refusals


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_refusals(path):
    dense = torch.randn(3, 4)
    for bad, error, words in [
        (dense.to_sparse(), ArrayTypeError, "sparse"),
        (dense.to_sparse_csr(), ArrayTypeError, "sparse_csr"),
        (torch.zeros(3, 4, dtype=torch.int64), ArrayTypeError, "int64"),
        (torch.zeros(3, 4, dtype=torch.complex64), ArrayTypeError, "complex64"),
        (torch.tensor(1.0), ArrayError, "0 dimensions"),
        (np.zeros((3, 4)), ArrayTypeError, "torch.Tensor"),
    ]:
        for function in (urt.row_norms, urt.unit_norm_):
            with pytest.raises(error, match=words):
                function(bad)
    for function in (urt.row_norms, urt.unit_norm_):
        with pytest.raises(ArrayError, match="dim 2"):
            function(dense, 2)
    with pytest.raises(ArrayError, match="must agree"):
        urt.remove_parallel_(dense.clone(), torch.randn(4, 3))
    assert path


@pytest.mark.parametrize("compiled", [False, True])
def test_overlapping_memory_is_refused(path, compiled):
    for overlapping in (torch.randn(1, 4).expand(3, 4), torch.randn(5).as_strided((3, 3), (1, 1))):
        with pytest.raises(ArrayError, match="share memory"):
            urt.unit_norm_(overlapping, compiled=compiled)
    buffer = torch.randn(4, 4)
    with pytest.raises(ArrayError, match="share"):
        urt.remove_parallel_(buffer[:3], buffer[1:], compiled=compiled)
    with pytest.raises(ArrayError, match="share"):
        urt.remove_parallel_(buffer, buffer, compiled=compiled)
    urt.remove_parallel_(buffer[:2], buffer[2:])
    urt.unit_norm_(buffer.T[::2])
    assert path


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize(
    "tensor",
    [
        lambda: torch.empty(3, 4, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.eye(3).to_sparse_csr(),
        lambda: torch.zeros(3, 4, dtype=torch.int32),
    ],
)
def test_array_functions_refuse_tensors_without_plain_memory(tensor):
    for function in (ur.row_norms, ur.normalize_rows_):
        with pytest.raises(ArrayTypeError):
            function(tensor())


def test_array_functions_refuse_lazily_negated_views():
    view = torch.randn(3, 4, dtype=torch.complex64).conj().imag
    assert view.is_neg()
    assert np.array_equal(ur.row_norms(view), ur.row_norms(view.resolve_neg()))
    with pytest.raises(ArrayError, match="negated"):
        ur.normalize_rows_(view)
    with pytest.raises(ArrayError, match="negated"):
        urt.unit_norm_(view)
    with pytest.raises(ArrayError, match="negated"):
        urt.remove_parallel_(view, torch.ones(3, 4))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused():
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)])
    with pytest.raises(ArrayTypeError, match="nested"):
        urt.row_norms(nested)


def test_flush_denormal_does_not_reach_the_kernels():
    # torch.set_flush_denormal changes the calling thread, on which small arrays are measured.
    x = torch.tensor([[1e-40, 0]])
    expected = ur.row_norms(x)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU has no such mode")
    try:
        assert np.array_equal(ur.row_norms(x), expected)
        assert expected > 0
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", WIDE)
def test_cuda_agrees_with_the_cpu(dtype):
    w, grad = torch.randn(300, 200).to(dtype), torch.randn(300, 200).to(dtype)
    torch.testing.assert_close(urt.row_norms(w.cuda()).cpu(), urt.row_norms(w), rtol=1e-15, atol=0)
    torch.testing.assert_close(
        urt.remove_parallel_(grad.cuda(), w.cuda()).cpu(),
        urt.remove_parallel_(grad.clone(), w),
        rtol=torch.finfo(dtype).eps,
        atol=torch.finfo(dtype).eps,
    )
    ours, theirs = urt.unit_norm_(w.cuda()).cpu(), urt.unit_norm_(w.clone())
    if dtype == torch.float64:
        torch.testing.assert_close(ours, theirs, rtol=2**-51, atol=0)
    else:
        assert (ours != theirs).sum() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dim", [-1, 0])
@pytest.mark.parametrize("compiled", [True, False])
def test_compiled_for_cuda(compiled, dim):
    def step(w, grad):
        urt.remove_parallel_(grad, w, dim, compiled=compiled)
        w.sub_(grad, alpha=0.1)
        return urt.unit_norm_(w, dim, compiled=compiled)

    w, grad = torch.randn(500, 60, device="cuda"), torch.randn(500, 60, device="cuda")
    expected = step(w.clone(), grad.clone())
    found = torch.compile(step, fullgraph=True)(w.clone(), grad.clone())
    torch.testing.assert_close(found, expected, rtol=0, atol=2**-24)
    assert is_unit_to_rounding(found, dim).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dim", [-1, 0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_compiled_gives_what_the_operations_give_on_cuda(dtype, dim):
    w = torch.randn(500, 600, device="cuda").mul(3).to(dtype)
    grad = torch.randn(500, 600, device="cuda").to(dtype)
    found, found_grad = w.clone(), grad.clone()
    urt.unit_norm_(found, dim, compiled=True)
    urt.remove_parallel_(found_grad, w, dim, compiled=True)
    assert (found != urt.unit_norm_(w.clone(), dim)).sum() <= 1
    assert (found_grad != urt.remove_parallel_(grad, w, dim)).sum() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_array_functions_name_the_way_for_cuda():
    with pytest.raises(ArrayTypeError, match="runs where a torch tensor lies"):
        ur.row_norms(torch.randn(3, 4, device="cuda"))
