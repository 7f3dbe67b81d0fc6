"""`JumpReLUTranscoder`: what it computes, how it starts, and what folding may not change."""

from __future__ import annotations

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")

import unitrow.torch as urt  # noqa: E402
from unitrow.errors import ArrayError, ArrayTypeError, UnitrowError  # noqa: E402
from unitrow.transcoder import (  # noqa: E402
    ConfigError,
    JumpReLUTranscoder,
    JumpReLUTranscoderConfig,
    TopKTranscoder,
    TopKTranscoderConfig,
)
from unitrow.transcoder.estimators import jump_relu, step  # noqa: E402

pytestmark = pytest.mark.torch

D_IN, D_OUT, D_SAE = 6, 10, 48
U = 2.0**-24


def transcoder(**fields):
    """A transcoder with random parameters; free decoder rows."""
    sizes = {"d_in": D_IN, "d_out": D_OUT, "d_sae": D_SAE, "bandwidth": 0.2}
    module = JumpReLUTranscoder(JumpReLUTranscoderConfig(**(sizes | fields)))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        module.threshold.abs_()
    return module.eval()


def test_definition():
    module = transcoder(skip=True)
    x = torch.randn(5, D_IN)
    z = x @ module.W_enc + module.b_enc
    f = torch.where(z > module.threshold, z, 0.0)
    assert torch.equal(module.pre_activations(x), z)
    assert torch.equal(module.encode(x), f)
    assert torch.equal(module.step(z), (f != 0).float())
    assert 0 < (f != 0).float().mean() < 1
    assert torch.equal(module.decode(f), f @ module.W_dec + module.b_dec)
    assert torch.equal(module(x), f @ module.W_dec + module.b_dec + x @ module.W_skip.T)
    assert torch.equal(module.decode(f, x), module(x))


@pytest.mark.parametrize("shape", [(D_IN,), (0, D_IN), (2, 3, D_IN)])
def test_leading_shapes(shape):
    module = transcoder()
    x = torch.randn(shape)
    assert module(x).shape == (*shape[:-1], D_OUT)
    assert module.encode(x).shape == (*shape[:-1], D_SAE)


def test_names_and_shapes_are_those_of_the_field():
    shapes = {name: tuple(tensor.shape) for name, tensor in transcoder(skip=True).state_dict().items()}
    assert shapes == {
        "W_enc": (D_IN, D_SAE),
        "W_dec": (D_SAE, D_OUT),
        "b_enc": (D_SAE,),
        "b_dec": (D_OUT,),
        "threshold": (D_SAE,),
        "W_skip": (D_OUT, D_IN),
    }
    assert transcoder().W_skip is None
    assert "W_skip" not in transcoder().state_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_initial_parameters(dtype):
    module = JumpReLUTranscoder(JumpReLUTranscoderConfig(D_IN, D_OUT, 500, skip=True, dtype=dtype))
    norms = module.W_dec.double().norm(dim=1)
    assert (norms - 1).abs().max() < (1e-7 if dtype == torch.float32 else 4e-3)
    assert all(not zero.any() for zero in (module.b_enc, module.b_dec, module.W_skip))
    assert (module.threshold == torch.tensor(0.001)).all()
    assert module.threshold.dtype == torch.float32
    bound = (6 / D_IN) ** 0.5
    assert 0.95 * bound < module.W_enc.abs().max() <= bound * 1.01


def test_an_sae_may_start_tied():
    config = JumpReLUTranscoderConfig(D_IN, D_IN, D_SAE)
    assert not torch.equal(JumpReLUTranscoder(config).W_enc, JumpReLUTranscoder(config).W_dec.T)
    module = JumpReLUTranscoder(JumpReLUTranscoderConfig(D_IN, D_IN, D_SAE, tied_init=True))
    assert torch.equal(module.W_enc, module.W_dec.T)
    assert module.W_enc.data_ptr() != module.W_dec.data_ptr()


def test_without_memory_and_copied():
    with torch.device("meta"):
        module = JumpReLUTranscoder(JumpReLUTranscoderConfig(4096, 4096, 2**20))
    assert module(torch.empty(2, 4096, device="meta")).shape == (2, 4096)
    module = transcoder()
    x = torch.randn(4, D_IN)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301
        assert torch.equal(other(x), module(x))
        other.cfg.bandwidth = 9.0
    assert module.cfg.bandwidth == 0.2


def test_a_configuration_is_not_shared():
    config = JumpReLUTranscoderConfig(D_IN, D_OUT, D_SAE)
    module = JumpReLUTranscoder(config)
    module.cfg.bandwidth = 9.0
    module.cfg.metadata["model_name"] = "m"
    assert config == JumpReLUTranscoderConfig(D_IN, D_OUT, D_SAE)


@pytest.mark.parametrize("ste_to_input", [False, True])
def test_the_configuration_reaches_the_estimators(ste_to_input):
    module = transcoder(ste_to_input=ste_to_input)
    module.cfg.bandwidth = 0.7
    z = torch.randn(64, D_SAE, requires_grad=True)
    twin, theta = z.detach().clone().requires_grad_(), module.threshold.detach().clone().requires_grad_()
    weights = torch.randn(64, D_SAE)
    ((module.activate(z) + 2 * module.step(z)) * weights).sum().backward()
    f = jump_relu(twin, theta, 0.7, ste_to_input=ste_to_input)
    ((f + 2 * step(twin, theta, 0.7, ste_to_input=ste_to_input)) * weights).sum().backward()
    assert torch.equal(z.grad, twin.grad)
    assert torch.equal(module.threshold.grad, theta.grad)


def test_every_parameter_learns_and_rows_stay_unit():
    module = JumpReLUTranscoder(
        JumpReLUTranscoderConfig(D_IN, D_OUT, D_SAE, bandwidth=0.3, threshold_init=0.1, skip=True)
    )
    before = copy.deepcopy(module.state_dict())
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2, betas=(0.0, 0.999))
    urt.UnitNorm(module, "W_dec").attach(optimizer)
    x = torch.randn(256, D_IN)
    target = torch.relu(x @ torch.randn(D_IN, D_OUT))
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        z = module.pre_activations(x)
        error = (module.decode(module.activate(z), x) - target).square().sum(-1).mean()
        (error + 0.02 * module.step(z).sum(-1).mean()).backward()
        optimizer.step()
        losses.append(error.item())
        assert (module.W_dec.double().norm(dim=1) - 1).abs().max() < 2 * U
    assert losses[-1] < 0.6 * losses[0]
    for name, parameter in module.named_parameters():
        assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("to_bfloat16", [lambda m: m.bfloat16(), lambda m: m.to(torch.bfloat16)])
def test_the_threshold_stays_float32(to_bfloat16):
    """Cast to bfloat16 and back it would have lost 16 bits: steps of an optimizer vanish in them."""
    module = transcoder()
    module.threshold.grad = torch.rand(D_SAE)
    threshold, grad = module.threshold.detach().clone(), module.threshold.grad.clone()
    parameter = module.threshold
    assert to_bfloat16(module) is module
    assert module.W_enc.dtype == torch.bfloat16
    assert module.threshold is parameter
    assert torch.equal(module.threshold, threshold)
    assert torch.equal(module.threshold.grad, grad)
    x = torch.randn(7, D_IN)
    assert module(x).dtype == torch.bfloat16
    module(x).sum().backward()
    assert module.threshold.grad.dtype == torch.float32
    assert torch.nn.Sequential(transcoder()).half()[0].threshold.dtype == torch.float32
    assert module.double().threshold.dtype == torch.float64
    assert transcoder(dtype=torch.float64).threshold.dtype == torch.float64
    assert transcoder(dtype=torch.float16).threshold.dtype == torch.float32


def test_autocast():
    module = transcoder(skip=True).train()
    x = torch.randn(64, D_IN)
    exact = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        z = module.pre_activations(x)
        f = module.activate(z)
        y = module.decode(f, x)
        l0 = module.step(z).sum(-1)
        loss = (y - 1).square().mean() + l0.mean()
    assert torch.equal(l0, (f != 0).sum(-1).float())
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all()
    assert (y - exact).square().mean() < 0.01 * exact.square().mean()


def test_thresholds_below_zero_return():
    """Clamped in the graph they would have no gradient there and stay for ever."""
    module = transcoder().train()
    with torch.no_grad():
        module.threshold.fill_(-0.01)
    z = torch.full((3, D_SAE), 0.05)
    losses = [module.step(z).sum(), module.activate(z).sum()]  # two graphs at once, as in accumulation
    assert not module.threshold.any()
    sum(losses).backward()
    assert (module.threshold.grad == -3 / 0.2).all()


def test_evaluation_changes_nothing():
    module = transcoder()
    with torch.no_grad():
        module.threshold.fill_(-0.01)
    module(torch.randn(2, D_IN))
    assert (module.threshold < 0).all()


def test_compile():
    module = transcoder(skip=True).train()
    twin = copy.deepcopy(module)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    x = torch.randn(16, D_IN)
    assert torch.equal(compiled(x), twin(x))
    compiled(x).square().mean().backward()
    twin(x).square().mean().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, twin.get_parameter(name).grad)


class TestFolding:
    def test_decoder_norms(self, path):
        module = transcoder(skip=True)
        with torch.no_grad():
            module.W_dec.mul_(torch.logspace(-6, 6, D_SAE).unsqueeze(1))
            module.W_dec[5] = 0
        before = copy.deepcopy(module)
        places = [parameter.data_ptr() for parameter in module.parameters()]
        x = torch.randn(512, D_IN)
        module.fold_W_dec_norm()
        assert [parameter.data_ptr() for parameter in module.parameters()] == places
        norms = module.W_dec.double().norm(dim=1)
        assert norms[5] == 0
        assert ((norms - 1).abs() < 2 * U)[norms != 0].all(), path
        assert torch.equal(module.encode(x) != 0, before.encode(x) != 0)
        scale = before(x).detach().abs().max()
        torch.testing.assert_close(module(x), before(x), rtol=0, atol=float(2e-6 * scale))
        for name in ("W_enc", "b_enc", "threshold"):  # a row of zeros has nothing to give the encoder
            assert torch.equal(getattr(module, name)[..., 5], getattr(before, name)[..., 5])
        torch.testing.assert_close(
            module.threshold.double() / before.threshold,
            before.W_dec.double().norm(dim=1).where(norms > 0, 1),
        )
        state = copy.deepcopy(module.state_dict())
        module.fold_W_dec_norm()
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())

    def test_rows_without_direction_are_left_alone(self):
        module = transcoder()
        with torch.no_grad():
            module.W_dec[0, 0], module.W_dec[1, 0] = torch.inf, torch.nan
        before = copy.deepcopy(module)
        module.fold_W_dec_norm()
        assert torch.equal(module.W_enc[:, :2], before.W_enc[:, :2])
        assert torch.equal(module.W_dec[0], before.W_dec[0])

    def test_bfloat16_rows_are_made_up_for(self):
        module = transcoder(dtype=torch.bfloat16)
        before = copy.deepcopy(module).double()
        module.fold_W_dec_norm()
        assert (module.W_dec.double().norm(dim=1) - 1).abs().max() < 2**-8
        products = (module.threshold.double() * module.W_dec.double().norm(dim=1)) / before.threshold
        torch.testing.assert_close(products, before.W_dec.norm(dim=1), rtol=1e-6, atol=0)

    def test_projection_is_no_fold(self):
        module = transcoder()
        before = copy.deepcopy(module)
        module.set_decoder_norm_to_unit_norm()
        assert torch.equal(module.W_enc, before.W_enc)
        assert (module.W_dec.double().norm(dim=1) - 1).abs().max() < 2 * U

    @pytest.mark.parametrize("scales", [(8.0, 0.5), (3.7, 3.7), (11.3, 0.6)])
    def test_scales_go_into_the_encoder(self, scales):
        """Folded into the decoder, its rows would share a norm other than 1."""
        input_scale, output_scale = scales
        module = transcoder(skip=True)
        module.set_decoder_norm_to_unit_norm()
        before = copy.deepcopy(module)
        raw = torch.randn(1000, D_IN) * input_scale
        module.fold_scales(input_scale, output_scale)
        assert torch.equal(module.W_dec, before.W_dec)
        expected = before(raw / input_scale) * output_scale
        active = before.encode(raw / input_scale) != 0
        if scales == (8.0, 0.5):  # powers of two round nothing
            assert torch.equal(module(raw), expected)
            assert torch.equal(module.encode(raw) != 0, active)
        same = (module.encode(raw) != 0) == active
        assert (~same).sum() <= 1  # a pre-activation within rounding of its threshold
        rows = same.all(-1)
        torch.testing.assert_close(
            module(raw)[rows], expected[rows], rtol=0, atol=float(4e-6 * expected.detach().abs().max())
        )
        if input_scale == output_scale:
            assert torch.equal(module.W_enc, before.W_enc)
        assert module.cfg.bandwidth == pytest.approx(before.cfg.bandwidth * output_scale)
        assert before.cfg.bandwidth == 0.2

    @pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["input_scale", "output_scale"])
    def test_bad_scales(self, name, scale):
        with pytest.raises(ConfigError, match=f"^{name} must be"):
            transcoder().fold_scales(**({"input_scale": 1.0, "output_scale": 1.0} | {name: scale}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_in", 0),
        ("d_out", -3),
        ("d_sae", 2.5),
        ("d_sae", True),
        ("bandwidth", 0.0),
        ("bandwidth", float("nan")),
        ("threshold_init", -0.1),
        ("threshold_init", float("inf")),
        ("tied_init", True),
        ("dtype", torch.int64),
        ("dtype", "float32"),
    ],
)
def test_bad_configuration_names_the_field(field, value):
    with pytest.raises(ConfigError, match=f"^{field} (must|needs)") as caught:
        JumpReLUTranscoderConfig(**({"d_in": D_IN, "d_out": D_OUT, "d_sae": D_SAE} | {field: value}))
    assert isinstance(caught.value, UnitrowError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("field", "value"), [("k", 0), ("k", D_SAE + 1), ("apply_b_dec_to_input", True)])
def test_bad_top_k_configuration(field, value):
    fields = {"d_in": D_IN, "d_out": D_OUT, "d_sae": D_SAE, "k": 3} | {field: value}
    with pytest.raises(ConfigError, match=f"^{field} "):
        TopKTranscoderConfig(**fields)


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(transcoder, id="jumprelu"),
        pytest.param(lambda: TopKTranscoder(TopKTranscoderConfig(D_IN, D_OUT, D_SAE, 3)), id="topk"),
    ],
)
def test_bad_inputs_name_the_argument(module):
    module = module()
    with pytest.raises(ArrayError, match=rf"^x must have shape \[\.\.\., d_in = {D_IN}\], and has \[2, 5\]"):
        module(torch.ones(2, 5))
    with pytest.raises(ArrayError, match=r"^x must have shape \["):
        module(torch.tensor(1.0))
    with pytest.raises(ArrayTypeError, match=r"^x must be .* and is torch\.int64"):
        module(torch.ones(2, D_IN, dtype=torch.int64))
    with pytest.raises(ArrayTypeError, match=r"^x must be .* and is list"):
        module([1.0] * D_IN)
    with pytest.raises(ArrayError, match=r"^f must have shape \[\.\.\., d_sae"):
        module.decode(torch.ones(2, D_IN))


def test_top_k():
    module = TopKTranscoder(TopKTranscoderConfig(D_IN, D_IN, D_SAE, 5, apply_b_dec_to_input=True, skip=True))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    x = torch.randn(2, 9, D_IN)
    f = module.encode(x)
    z = torch.relu((x - module.b_dec) @ module.W_enc + module.b_enc)
    kept = z.topk(5, dim=-1).values[..., -1:]
    assert torch.equal(f, torch.where(z >= kept, z, 0.0))
    assert torch.equal(module(x), f @ module.W_dec + module.b_dec + x @ module.W_skip.T)
    module.b_enc.data.fill_(-1000)  # fewer than k are positive
    assert not module.encode(x).any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(tmp_path):
    module = transcoder(skip=True)
    x = torch.randn(256, D_IN)
    expected = module(x)
    twin = copy.deepcopy(module).cuda()
    torch.testing.assert_close(twin(x.cuda()).cpu(), expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cuda", torch.bfloat16):
        twin.train()(x.cuda()).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in twin.parameters())
    assert twin.bfloat16().threshold.dtype == torch.float32
    other = copy.deepcopy(module).cuda()
    other.fold_W_dec_norm()
    assert (other.W_dec.double().norm(dim=1) - 1).abs().max() < 2 * U
    other.save_model(tmp_path)
    loaded = JumpReLUTranscoder.load_from_disk(tmp_path, device="cuda")
    assert torch.equal(loaded(x.cuda()), other.eval()(x.cuda()))
