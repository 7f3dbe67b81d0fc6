"""The straight-through estimators against the published pseudo-derivatives, written out in loops."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from unitrow.transcoder.estimators import jump_relu, step  # noqa: E402

pytestmark = pytest.mark.torch

BANDWIDTH = 0.25
THRESHOLDS = [0.0, 0.125, 0.5, 2.0]


def heaviside(u):
    return 1.0 if u > 0 else 0.0


def rectangle(u):
    return 1.0 if -0.5 < u < 0.5 else 0.0


def published(z, theta, grad, kind, ste_to_input):
    """Value and gradients by arXiv 2407.14435, in Python's floats."""
    rows, latents = len(z), len(theta)
    value = [[0.0] * latents for _ in z]
    grad_z = [[0.0] * latents for _ in z]
    grad_theta = [0.0] * latents
    for b in range(rows):
        for i in range(latents):
            distance = z[b][i] - theta[i]
            if kind == "jump_relu":
                value[b][i] = z[b][i] * heaviside(distance)
                by_z = heaviside(distance)
                by_theta = -theta[i] / BANDWIDTH * rectangle(distance / BANDWIDTH)
            else:
                value[b][i] = heaviside(distance)
                by_z = 0.0
                by_theta = -1 / BANDWIDTH * rectangle(distance / BANDWIDTH)
            grad_z[b][i] = grad[b][i] * (by_z - by_theta if ste_to_input else by_z)
            grad_theta[i] += grad[b][i] * by_theta
    return value, grad_z, grad_theta


def points():
    """Pre-activations on, around and far from each threshold and each edge of its window."""
    offsets = [0.0, 0.0625, -0.0625, 0.125, -0.125, 0.1875, -0.1875, 0.5, -0.5, -3.0]
    z = [[theta + offset for theta in THRESHOLDS] for offset in offsets]
    return z + torch.randn(40, len(THRESHOLDS), dtype=torch.float64).mul(0.6).add(0.4).tolist()


@pytest.mark.parametrize("ste_to_input", [False, True])
@pytest.mark.parametrize("function", [jump_relu, step])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients_are_the_published_ones(function, ste_to_input, dtype):
    z = torch.tensor(points(), dtype=dtype, requires_grad=True)
    theta = torch.tensor(THRESHOLDS, dtype=dtype, requires_grad=True)
    grad = torch.randn_like(z)
    out = function(z, theta, BANDWIDTH, ste_to_input=ste_to_input)
    out.backward(grad)
    value, grad_z, grad_theta = published(
        z.tolist(), theta.tolist(), grad.tolist(), function.__name__, ste_to_input
    )
    assert out.tolist() == value
    found = torch.zeros_like(z) if z.grad is None else z.grad  # the step has none for z
    torch.testing.assert_close(found, torch.tensor(grad_z, dtype=dtype))
    torch.testing.assert_close(theta.grad, torch.tensor(grad_theta, dtype=dtype))


def test_a_latent_just_below_its_threshold_pulls_the_threshold_down():
    """dictionary_learning took the step of the activation, 0 there, and lost this half of the window."""
    z = torch.tensor([[0.49]])
    theta = torch.tensor([0.5], requires_grad=True)
    assert jump_relu(z, theta, BANDWIDTH).item() == 0
    step(z, theta, BANDWIDTH).sum().backward()
    assert theta.grad.item() == -1 / BANDWIDTH


@pytest.mark.parametrize("ste_to_input", [False, True])
@pytest.mark.parametrize("function", [jump_relu, step])
def test_gradcheck_where_they_are_smooth(function, ste_to_input):
    theta = torch.tensor(THRESHOLDS, dtype=torch.float64, requires_grad=True)
    sides = torch.where(torch.rand(12, len(THRESHOLDS)) < 0.5, -1.0, 1.0).double()
    away = (0.6 + torch.rand(12, len(THRESHOLDS), dtype=torch.float64)) * BANDWIDTH * sides
    z = (theta.detach() + away).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z, theta: function(z, theta, BANDWIDTH, ste_to_input=ste_to_input), (z, theta)
    )


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (0, 4)])
def test_any_leading_shape(shape):
    z = torch.full(shape, 0.5, requires_grad=True)
    theta = torch.full((4,), 0.5, requires_grad=True)
    jump_relu(z, theta, BANDWIDTH).sum().backward()
    rows = math.prod(shape[:-1])
    assert z.grad.shape == z.shape
    assert theta.grad.tolist() == [-rows * 0.5 / BANDWIDTH] * 4


def test_bfloat16_is_compared_and_summed_in_float32():
    """In bfloat16 this threshold rounds up onto z, and 4097 ones sum to 4096."""
    z = torch.full((4097, 1), 0.30078125, dtype=torch.bfloat16, requires_grad=True)
    theta = torch.tensor([0.3007], requires_grad=True)
    assert theta.bfloat16() == z[0]
    f = jump_relu(z, theta, 1.0)
    assert f.dtype == torch.bfloat16
    assert torch.equal(f, z)
    active = step(z, theta, 1.0)
    assert active.dtype == torch.float32
    assert active.sum() == 4097
    (f.sum(dtype=torch.float32) + active.sum()).backward()
    assert theta.grad.dtype == torch.float32
    assert theta.grad.item() == pytest.approx(-4097 * (1 + 0.3007), rel=1e-6)
    assert z.grad.dtype == torch.bfloat16


def test_nan_is_not_hidden():
    theta = torch.tensor([0.5])
    assert jump_relu(torch.tensor([[math.nan]]), theta, BANDWIDTH).isnan().item()
    assert jump_relu(torch.tensor([[math.inf, -math.inf]]), theta, BANDWIDTH).tolist() == [[math.inf, 0.0]]


def test_only_the_gradients_that_are_wanted():
    z, theta = torch.ones(2, 3, requires_grad=True), torch.ones(3)
    for function in (jump_relu, step):
        function(z, theta, BANDWIDTH, ste_to_input=True).sum().backward()
    assert theta.grad is None
    jump_relu(z.detach(), theta.requires_grad_(), BANDWIDTH).sum().backward()
    assert theta.grad is not None
