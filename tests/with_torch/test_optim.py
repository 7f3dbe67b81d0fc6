"""`UnitNormAdam`: Adam's own numbers without the constraint, unit rows with it, Adam's state either way."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import unitrow.torch as urt  # noqa: E402
from unitrow.errors import ArrayError  # noqa: E402
from unitrow.torch._dispatch import _force_torch  # noqa: E402

from .support import exact_norms, is_unit_to_rounding  # noqa: E402

pytestmark = pytest.mark.torch


def pair(*shape, dtype=torch.float32):
    first = nn.Parameter(torch.randn(shape).to(dtype))
    return first, nn.Parameter(first.detach().clone())


def assert_unit(w, dim=-1):
    assert is_unit_to_rounding(w, dim).all()


def free(parameters, **options):
    return urt.UnitNormAdam([{"params": list(parameters), "unit_norm": False}], **options)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"betas": (0.0, 0.99), "eps": 1e-6}])
@pytest.mark.parametrize("shape", [(33, 70), (129,), (2, 3, 5)])
def test_without_the_constraint_it_is_adam(path, shape, options):
    ours, theirs = pair(*shape)
    optimizer = free([ours], lr=1e-2, **options)
    reference = torch.optim.AdamW([theirs], lr=1e-2, **{"weight_decay": 0.0, **options})
    for _ in range(20):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        before = ours.grad.clone()
        optimizer.step()
        reference.step()
        assert torch.equal(ours.grad, before), "gradients are read only"
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=2e-7)
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(
            optimizer.state[ours][name], reference.state[theirs][name], rtol=2e-6, atol=2e-7
        )
    assert path


@pytest.mark.parametrize("dim", [-1, 0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_row_is_unit_after_every_step(path, dtype, dim):
    if path == "compensated" and dtype == torch.float64:
        pytest.skip("devices without float64 hold no float64 tensor")
    w = nn.Parameter(torch.randn(40, 36).to(dtype))
    optimizer = urt.UnitNormAdam([w], lr=1e-2, dim=dim)
    for _ in range(10):
        w.grad = torch.randn(40, 36).to(dtype)
        optimizer.step()
        assert_unit(w, dim)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}])
@pytest.mark.parametrize("dim", [-1, 0])
def test_the_fused_step_is_the_composed_one(dim, options):
    ours, theirs = pair(40, 36)
    optimizers = [urt.UnitNormAdam([w], lr=1e-2, dim=dim, **options) for w in (ours, theirs)]
    for _ in range(20):
        ours.grad = torch.randn(40, 36)
        theirs.grad = ours.grad.clone()
        optimizers[0].step()
        with _force_torch():
            optimizers[1].step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_composed_step_is_projection_adam_normalisation(path):
    ours, theirs = pair(10, 8)
    optimizer = urt.UnitNormAdam([ours], lr=1e-2)
    reference = torch.optim.Adam([theirs], lr=1e-2)
    for _ in range(5):
        ours.grad = torch.randn(10, 8)
        r, g = theirs.detach().double(), ours.grad.double()
        theirs.grad = (g - (g * r).sum(-1, keepdim=True) / (r * r).sum(-1, keepdim=True) * r).float()
        optimizer.step()
        reference.step()
        theirs.data = (theirs.double() / exact_norms(theirs)[:, None]).float().detach()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert path


@pytest.mark.parametrize("reference", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("fused", [True, None])
def test_state_goes_to_adam_and_back(path, reference, fused):
    ours, theirs = pair(6, 5)
    optimizer = urt.UnitNormAdam([ours], lr=3e-3, dim=0)
    for _ in range(3):
        ours.grad = torch.randn(6, 5)
        optimizer.step()
    adam = reference([theirs], fused=fused, weight_decay=0.0)
    adam.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert adam.param_groups[0]["lr"] == 3e-3
    assert int(adam.state[theirs]["step"]) == 3
    assert torch.equal(adam.state[theirs]["exp_avg_sq"], optimizer.state[ours]["exp_avg_sq"])
    theirs.grad = torch.randn(6, 5)
    adam.step()
    again = urt.UnitNormAdam([nn.Parameter(ours.detach().clone())], dim=0)
    again.load_state_dict(adam.state_dict())
    group = again.param_groups[0]
    assert (group["dim"], group["unit_norm"], group["lr"]) == (0, True, 3e-3)
    w = group["params"][0]
    assert int(again.state[w]["step"]) == 4
    w.grad = torch.randn(6, 5)
    again.step()
    assert_unit(w, 0)
    assert path


@pytest.mark.parametrize("reference", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.2}, {"maximize": True, "weight_decay": 0.2}])
def test_adams_own_state_loads(path, reference, options):
    ours, theirs = pair(6, 5)
    adam = reference([theirs], lr=3e-3, **options)
    for _ in range(3):
        theirs.grad = torch.randn(6, 5)
        adam.step()
    ours.data.copy_(theirs.data)
    optimizer = free([ours])
    optimizer.load_state_dict(copy.deepcopy(adam.state_dict()))
    theirs.grad = torch.randn(6, 5)
    ours.grad = theirs.grad.clone()
    adam.step()
    optimizer.step()
    assert optimizer.param_groups[0]["unit_norm"] is False
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    assert path


def test_resume_is_bit_for_bit(path):
    def run(steps, optimizer, w, seed):
        torch.manual_seed(seed)
        for _ in range(steps):
            w.grad = torch.randn(6, 5)
            optimizer.step()

    whole, parted = pair(6, 5)
    first = urt.UnitNormAdam([whole])
    run(4, first, whole, 1)
    run(4, first, whole, 2)
    second = urt.UnitNormAdam([parted])
    run(4, second, parted, 1)
    saved = copy.deepcopy(second.state_dict())
    third = urt.UnitNormAdam([parted])
    third.load_state_dict(saved)
    run(4, third, parted, 2)
    assert torch.equal(whole, parted)
    assert path


def test_state_that_needs_something_else_is_refused():
    w = nn.Parameter(torch.randn(3, 4))
    other = torch.optim.Adam([nn.Parameter(torch.randn(3, 4))], amsgrad=True)
    optimizer = urt.UnitNormAdam([w])
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="amsgrad=True, which UnitNormAdam does not do"):
        optimizer.load_state_dict(other.state_dict())
    assert optimizer.state_dict() == before


def test_groups_schedulers_and_closures(path):
    w_dec, w_enc, bias = (nn.Parameter(torch.randn(shape)) for shape in ((8, 4), (4, 8), (8,)))
    optimizer = urt.UnitNormAdam(
        [{"params": [w_dec]}, {"params": [w_enc, bias], "unit_norm": False, "lr": 1e-4}], lr=1e-2
    )
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5)
    before = w_enc.detach().clone()

    def closure():
        optimizer.zero_grad()
        loss = ((torch.ones(2, 4) @ w_enc + bias).relu() @ w_dec).square().sum()
        loss.backward()
        return loss

    for _ in range(3):
        assert float(optimizer.step(closure).detach()) >= 0
        scheduler.step()
    assert_unit(w_dec)
    assert not torch.equal(w_enc, before)
    assert path


def test_parameters_without_gradient_stay():
    w, idle = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3, 4))
    before = idle.detach().clone()
    optimizer = urt.UnitNormAdam([w, idle])
    w.grad = torch.randn(3, 4)
    optimizer.step()
    assert torch.equal(idle, before)
    assert optimizer.state_dict()["state"].keys() == {0}


def test_rows_without_direction_stay_finite(path):
    w = nn.Parameter(torch.tensor([[0.0, 0], [1, 0]]))
    optimizer = urt.UnitNormAdam([w], lr=1e-2)
    w.grad = torch.zeros(2, 2)
    optimizer.step()
    assert w.tolist() == [[0, 0], [1, 0]]
    assert path


def test_layouts_of_memory(path):
    """Transposed parameters, expanded gradients and slices give what dense copies give."""
    base = torch.randn(12, 7)
    grads = [torch.randn(7, 12).T, torch.randn(1, 7).expand(12, 7), torch.randn(24, 14)[::2, ::2]]
    results = []
    for make in (lambda x: x.clone(), lambda x: x.clone().T.contiguous().T):
        w = nn.Parameter(make(base))
        optimizer = urt.UnitNormAdam([w], lr=1e-2)
        for grad in grads:
            w.grad = grad if w.is_contiguous() else grad.clone()
            optimizer.step()
        results.append(w.detach().contiguous())
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)
    assert path


def test_version_counters_notice_a_step(path):
    w = nn.Parameter(torch.randn(3, 4))
    loss = (w * w).sum()
    w.grad = torch.randn(3, 4)
    urt.UnitNormAdam([w]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert path


def test_refusals():
    w = nn.Parameter(torch.randn(3, 4))
    for options in (
        {"lr": -1.0},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, -0.1)},
        {"eps": -1e-8},
        {"weight_decay": -1},
    ):
        with pytest.raises(ValueError, match="out of range"):
            urt.UnitNormAdam([w], **options)
    for dim in (2, -3):
        with pytest.raises(ArrayError, match=f"no dimension {dim}"):
            urt.UnitNormAdam([w], dim=dim)
    with pytest.raises(ArrayError, match="unit_norm=False"):
        urt.UnitNormAdam([w, nn.Parameter(torch.tensor(1.0))])
    optimizer = urt.UnitNormAdam([w])
    with pytest.raises(ArrayError):
        optimizer.add_param_group({"params": [nn.Parameter(torch.randn(3))], "dim": 1})
    assert len(optimizer.param_groups) == 1
    embedding = nn.Embedding(4, 3, sparse=True)
    sparse = urt.UnitNormAdam(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="dense gradients"):
        sparse.step()


def test_a_count_of_steps_that_is_a_number_goes_on():
    # Adam of torch before 1.12 stored one, which a step would have counted up for itself alone.
    w, _ = pair(6, 5)
    optimizer = urt.UnitNormAdam([w])
    w.grad = torch.randn(6, 5)
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0]["step"] = 1
    optimizer.load_state_dict(state)
    optimizer.step()
    assert optimizer.state[w]["step"] == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dim", [-1, 0])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("fused", [None, True])
def test_cuda_follows_the_cpu(fused, compiled, dim):
    from torch.utils._python_dispatch import TorchDispatchMode

    from unitrow.torch import _reference

    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    here, there = pair(40, 36)
    there = nn.Parameter(there.detach().cuda())
    options = {"lr": torch.tensor(1e-2), "dim": dim, "fused": fused, "compiled": compiled}
    optimizers = [urt.UnitNormAdam([w], **options) for w in (here, there)]
    for step in range(10):
        if step == 5:
            # As after a restart, from a state such as torch's own fused Adam leaves.
            state = optimizers[1].state_dict()
            state["param_groups"][0]["fused"] = True
            optimizers[1] = urt.UnitNormAdam([there], **options)
            optimizers[1].load_state_dict(state)
            assert optimizers[1].state[there]["step"].is_cpu
        here.grad = torch.randn(40, 36)
        there.grad = here.grad.cuda()
        uses = sum(_reference._compile.cache_info()[:2])
        optimizers[0].step()
        optimizers[1].step()
        assert (sum(_reference._compile.cache_info()[:2]) > uses) == compiled
    torch.testing.assert_close(here, there.cpu(), rtol=1e-5, atol=1e-6)
    assert_unit(there.cpu(), dim)
    assert optimizers[1].state[there]["step"] == 10
    if not compiled:  # such a mode would keep torch.compile from compiling
        called = set()
        with Calls():
            optimizers[1].step()
        assert ("_fused_adamw_" in called) == bool(fused)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fused_masters_on_cuda(dtype):
    here, there = pair(40, 36, dtype=dtype)
    there = nn.Parameter(there.detach().cuda())
    options = {"lr": 1e-3, "master_weights": True, "fused": True, "compiled": True, "weight_decay": 0.1}
    optimizers = [urt.UnitNormAdam([w], **options) for w in (here, there)]
    for _ in range(5):
        here.grad = torch.randn(40, 36).to(dtype)
        there.grad = here.grad.cuda()
        for optimizer in optimizers:
            optimizer.step()
    masters = [
        optimizer.state[w]["master"].cpu() for optimizer, w in zip(optimizers, (here, there), strict=True)
    ]
    torch.testing.assert_close(*masters, rtol=1e-5, atol=1e-6)
    assert_unit(masters[1])
    assert torch.equal(masters[1].to(dtype), there.detach().cpu())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_scaler_skips_steps_on_cuda():
    w = nn.Parameter(torch.randn(40, 36, device="cuda"))
    optimizer = urt.UnitNormAdam([w], lr=1e-2)
    scaler = torch.amp.GradScaler("cuda")
    for factor in (1.0, torch.inf, 1.0):
        before = w.detach().clone()
        scaler.scale((w.square() * torch.randn_like(w) * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert torch.equal(w, before) == (factor == torch.inf)
        assert_unit(w)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dim", [-1, 0])
def test_a_master_takes_steps_that_its_parameter_cannot(path, dtype, dim):
    start = torch.randn(40, 36)
    urt.unit_norm_(start, dim)
    w = nn.Parameter(start.to(dtype))
    optimizer = urt.UnitNormAdam([w], lr=1e-5, dim=dim, master_weights=True)
    grad = torch.randn(40, 36).to(dtype)
    for _ in range(5):
        w.grad = grad.clone()
        optimizer.step()
        master = optimizer.state[w]["master"]
        assert_unit(master, dim)
        assert torch.equal(master.to(dtype), w.detach()), "the parameter is the master's rounding"
    moved = (master - start.to(dtype).float()).abs()
    assert moved.max() > 4e-5, "five steps of 1e-5 add up, each far below the parameter's rounding"
    assert optimizer.state[w]["exp_avg"].dtype == torch.float32
    assert path


def test_a_loaded_master_and_its_moments_stay_float32():
    w, other = pair(8, 12, dtype=torch.bfloat16)
    optimizers = [urt.UnitNormAdam([x], lr=1e-3, master_weights=True) for x in (w, other)]
    for _ in range(3):
        w.grad = torch.randn(8, 12).to(torch.bfloat16)
        optimizers[0].step()
    other.data.copy_(w.data)
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for key in ("master", "exp_avg", "exp_avg_sq"):
        assert torch.equal(optimizers[0].state[w][key], optimizers[1].state[other][key]), key
    w.grad = torch.randn(8, 12).to(torch.bfloat16)
    other.grad = w.grad.clone()
    for optimizer in optimizers:
        optimizer.step()
    assert torch.equal(w, other)


def test_state_of_plain_adam_gets_a_master_from_the_parameter():
    ours, theirs = pair(8, 12, dtype=torch.bfloat16)
    reference = torch.optim.Adam([theirs])
    theirs.grad = torch.randn(8, 12).to(torch.bfloat16)
    reference.step()
    ours.data.copy_(theirs.data)
    optimizer = urt.UnitNormAdam([ours], master_weights=True)
    optimizer.load_state_dict(reference.state_dict())
    assert torch.equal(optimizer.state[ours]["master"], ours.detach().float())


@pytest.mark.usefixtures("path")
def test_a_lazily_negated_gradient_counts_as_what_it_prints():
    # Its memory holds the opposite, which is what the kernel sees.
    ours, theirs = pair(2, 3)
    theirs.grad = torch.randn(2, 3)
    ours.grad = torch._neg_view(-theirs.grad)
    free([ours], lr=0.1).step()
    torch.optim.Adam([theirs], lr=0.1).step()
    torch.testing.assert_close(ours, theirs)
