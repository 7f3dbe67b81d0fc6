"""`UnitNorm` on real optimizers: every row unit after every step, nothing renamed, nothing left behind."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import unitrow.torch as urt  # noqa: E402
from unitrow.errors import ArrayError, ArrayTypeError  # noqa: E402

from .support import exact_norms, is_unit_to_rounding  # noqa: E402

pytestmark = pytest.mark.torch


class Toy(nn.Module):
    def __init__(self, d_in=6, d_sae=24):
        super().__init__()
        self.W_enc = nn.Parameter(torch.randn(d_in, d_sae) / d_in**0.5)
        self.W_dec = nn.Parameter(torch.randn(d_sae, d_in))
        self.b_enc = nn.Parameter(torch.zeros(d_sae))

    def forward(self, x):
        return torch.relu(x @ self.W_enc + self.b_enc) @ self.W_dec


def train(model, optimizer, steps=1):
    for _ in range(steps):
        x = torch.randn(32, 6)
        optimizer.zero_grad()
        loss = ((model(x) - x) ** 2).mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def assert_unit(w, dim=-1):
    assert is_unit_to_rounding(w, dim).all()


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-1, momentum=0.9),
    "muon-like groups": lambda p: torch.optim.Adam([{"params": [q]} for q in p]),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_row_is_unit_after_every_step(path, optimizer):
    model = Toy()
    optimizer = OPTIMIZERS[optimizer](list(model.parameters()))
    constraint = urt.UnitNorm(model, "W_dec")
    with constraint.attach(optimizer):
        for _ in range(5):
            train(model, optimizer)
            assert_unit(model.W_dec)
            assert constraint.max_deviation() <= 2**-24 * 2
    assert path


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_on_cuda(dtype):
    with torch.device("cuda"):
        model = Toy().to(dtype)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
        constraint = urt.UnitNorm(model, "W_dec", compiled=True)
        constraint.attach(optimizer)
        for _ in range(5):
            x = torch.randn(32, 6, dtype=dtype)
            optimizer.zero_grad()
            (model(x) - x).square().mean().backward()
            grad = model.W_dec.grad.clone()
            expected = urt.remove_parallel_(grad, model.W_dec.detach().clone())
            optimizer.step()
            torch.testing.assert_close(model.W_dec.grad, expected, rtol=0, atol=0)
            assert_unit(model.W_dec)


def test_training_gets_somewhere():
    model = Toy()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    constraint = urt.UnitNorm(model, "W_dec")
    constraint.project_()
    constraint.attach(optimizer)
    first = train(model, optimizer)
    assert train(model, optimizer, steps=300) < first / 5
    assert_unit(model.W_dec)


def test_the_gradient_is_tangent_when_the_optimizer_sees_it():
    model = Toy()
    seen = {}

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            seen["grad"] = model.W_dec.grad.clone()
            return super().step(closure)

    for tangent in (True, False):
        optimizer = Spy(model.parameters(), lr=0.0)
        handle = urt.UnitNorm(model, "W_dec", tangent=tangent).attach(optimizer)
        train(model, optimizer)
        along = (seen["grad"] * model.W_dec).sum(-1).abs().max()
        assert (along < 1e-6) == tangent
        handle.remove()


@pytest.mark.parametrize("as_keyword", [True, False])
def test_a_closure_is_projected_each_time(as_keyword):
    model = Toy()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    urt.UnitNorm(model, "W_dec").attach(optimizer)
    x = torch.randn(32, 6)
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = ((model(x) - x) ** 2).mean()
        loss.backward()
        calls.append(loss)
        return loss

    loss = optimizer.step(closure=closure) if as_keyword else optimizer.step(closure)
    assert float(loss.detach()) == float(calls[0].detach())
    assert len(calls) > 1
    assert (model.W_dec.grad * model.W_dec).sum(-1).abs().max() < 0.1
    assert_unit(model.W_dec)


def test_remove_ends_it():
    model = Toy()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    handle = urt.UnitNorm(model, "W_dec").attach(optimizer)
    train(model, optimizer)
    handle.remove()
    handle.remove()
    train(model, optimizer)
    assert (exact_norms(model.W_dec) - 1).abs().max() > 1e-4
    with urt.UnitNorm(model, "W_dec").attached(optimizer):
        train(model, optimizer)
        assert_unit(model.W_dec)
    train(model, optimizer)
    assert (exact_norms(model.W_dec) - 1).abs().max() > 1e-4


def test_state_dicts_are_those_of_the_plain_model():
    model, plain = Toy(), Toy()
    optimizer, plain_optimizer = (torch.optim.Adam(m.parameters()) for m in (model, plain))
    urt.UnitNorm(model, "W_dec").attach(optimizer)
    train(model, optimizer)
    train(plain, plain_optimizer)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert optimizer.state_dict().keys() == plain_optimizer.state_dict().keys()
    restored = torch.optim.Adam(plain.parameters())
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def test_a_replaced_parameter_is_found_again():
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    urt.UnitNorm(model, "W_dec").attach(optimizer)
    model.W_dec = nn.Parameter(torch.randn(24, 6))
    train(model, optimizer)
    assert_unit(model.W_dec)


def test_dotted_names_and_the_other_dim():
    model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 6))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    urt.UnitNorm(model, "2.weight", dim=0).attach(optimizer)
    train(model, optimizer, 3)
    assert_unit(model[2].weight, 0)


def test_parameters_without_gradient_and_low_precision():
    model = Toy().to(torch.bfloat16)
    model.W_dec.requires_grad_(requires_grad=False)
    optimizer = torch.optim.Adam(model.parameters())
    urt.UnitNorm(model, "W_dec").attach(optimizer)
    optimizer.step()
    assert_unit(model.W_dec)


def test_gradients_of_a_graph_can_be_projected():
    w = nn.Parameter(torch.randn(3, 4))
    (grad,) = torch.autograd.grad((w**3).sum(), w, create_graph=True)
    with pytest.raises(ArrayError, match="autograd"):
        urt.remove_parallel_(grad, w)
    urt.remove_parallel_(grad.detach(), w)


def test_compiled_steps_call_the_hooks():
    model = Toy()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, foreach=True)
    urt.UnitNorm(model, "W_dec").attach(optimizer)
    step = torch.compile(optimizer.step, backend="eager")
    for _ in range(2):
        x = torch.randn(32, 6)
        optimizer.zero_grad()
        ((model(x) - x) ** 2).mean().backward()
        step()
        assert_unit(model.W_dec)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*weight_norm.* is deprecated")
def test_refusals():
    model = Toy()
    for name in ("W_missing", "sub.W_dec"):
        with pytest.raises(ArrayTypeError, match="no parameter"):
            urt.UnitNorm(model, name)
    with pytest.raises(ArrayTypeError, match="no parameter but method"):
        urt.UnitNorm(model, "forward")
    with pytest.raises(ArrayError, match="no dimension 2"):
        urt.UnitNorm(model, "W_dec", dim=2)
    with pytest.raises(ArrayError, match="does not train 'W_dec'"):
        urt.UnitNorm(model, "W_dec").attach(torch.optim.Adam([model.W_enc]))
    linear = nn.Linear(4, 3)
    nn.utils.parametrizations.weight_norm(linear)
    with pytest.raises(ArrayTypeError, match="parametrised"):
        urt.UnitNorm(linear, "weight")
    older = nn.utils.weight_norm(nn.Linear(4, 3))
    with pytest.raises(ArrayTypeError, match="no parameter but Tensor"):
        urt.UnitNorm(older, "weight")


def test_max_deviation():
    model = Toy()
    model.W_dec.data = torch.tensor([[3.0, 4.0], [0.6, 0.8]])
    assert urt.UnitNorm(model, "W_dec").max_deviation() == 4.0
    assert repr(urt.UnitNorm(model, "W_dec")) == "UnitNorm(Toy, 'W_dec', dim=-1)"


def test_drop_in_names(path):
    model = Toy()
    model.W_dec.grad = torch.randn_like(model.W_dec)
    urt.set_decoder_norm_to_unit_norm(model)
    assert_unit(model.W_dec)
    urt.remove_gradient_parallel_to_decoder_directions(model)
    assert (model.W_dec.grad * model.W_dec).sum(-1).abs().max() < 1e-6
    linear = nn.Linear(24, 6)
    urt.set_decoder_norm_to_unit_norm(linear.weight, dim=0)
    assert_unit(linear.weight, 0)
    urt.remove_gradient_parallel_to_decoder_directions(linear.weight, dim=0)
    with pytest.raises(ArrayTypeError, match="no W_dec"):
        urt.set_decoder_norm_to_unit_norm(object())
    assert path
