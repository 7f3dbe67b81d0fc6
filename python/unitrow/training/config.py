"""What a training run is made of: every constant is a field."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from unitrow.errors import ConfigError
from unitrow.training.checks import check_fields, check_together

Scaling = Literal["input-rms", "separate", "none"]
ScaledTo = Literal["unit-square-norm", "unit-rms", "mean-norm-sqrt-width"]
Sparsity = Literal["l0", "target-l0", "l0-control", "tanh"]
Over = Literal["token", "batch"]
Decoder = Literal["unit", "free"]
Threshold = Literal["raw", "log"]
Init = Literal["he", "narrow", "matched"]
Dead = Literal["none", "pre-activation", "aux-k"]
Shape = Literal["cosine", "linear"]


@dataclass
class TrainerConfig:
    """A training run. `TrainerConfig.from_recipe` fills in published constants.

    Losses are sums over output dimensions and means over the batch. Values of the transcoder (bandwidth,
    thresholds) are in units of scaled activations.

    Raises:
        ConfigError: A field is out of range, or contradicts another.
    """

    d_in: int
    """Width of the inputs."""

    d_out: int
    """Width of the targets."""

    d_sae: int
    """Number of latents."""

    steps: int
    """Updates in the whole run."""

    batch_size: int = 4096
    """Rows of a batch, over all processes."""

    seed: int = 0
    """Seed of the initial weights and of the order of the data."""

    recipe: str = "custom"
    """Where the constants come from; only a label."""

    # The transcoder

    skip: bool = False
    """Whether the input also reaches the output through a matrix `W_skip`, zero at first."""

    init: Init = "he"
    """`he`: He-uniform, decoder rows divided by their norms; `narrow`: decoder uniform in ±1/√d_out, encoder
    uniform in ±(d_in/d_sae)/√d_in; `matched`: He-uniform, then decoder, biases and the encoder's scale are
    fitted to it on the scale batches, with the `topk` largest pre-activations active."""

    tied_init: bool = False
    """Whether `W_enc` starts as the decoder transposed (`narrow`: times d_in/d_sae)."""

    encoder_init_scale: float = 1.0
    """Factor on the initial `W_enc`."""

    initial_l0: float | None = None
    """Where given, `b_enc` starts so that each latent fires on this many of d_sae tokens of the first batch,
    at most on every second."""

    bandwidth: float = 0.001
    """Width of the estimators' window."""

    bandwidth_end: float | None = None
    """Where given, the bandwidth goes from `bandwidth` to this, by a constant factor each step."""

    bandwidth_of_threshold: float | None = None
    """Where given, the bandwidth is this multiple of the mean threshold at the end of `topk_steps`."""

    threshold_init: float = 0.001
    """Initial threshold of every latent."""

    threshold: Threshold = "raw"
    """`raw`: the optimizer moves the threshold itself; `log`: its logarithm."""

    threshold_lr_factor: float = 1.0
    """Factor on the learning rate of the thresholds."""

    decoder_lr_factor: float = 1.0
    """Factor on the learning rate of `W_dec`."""

    ste_to_input: bool = False
    """Whether the estimators' gradient also reaches the encoder."""

    decoder: Decoder = "unit"
    """`unit`: gradients lose their part along the rows and rows are divided by their norms after every step;
    `free`: rows are left alone, and folded into unit rows once, on export."""

    # Scales

    scaling: Scaling = "input-rms"
    """`input-rms`: inputs and targets are divided by one constant, the inputs' own; `separate`: each by its
    own; `none`."""

    scaled_to: ScaledTo = "unit-square-norm"
    """What scaled activations have: a mean squared norm of 1, a mean squared norm of their width, or a mean
    norm of the root of their width."""

    standardize_inputs: bool = False
    """Whether each dimension of the inputs is first brought to mean 0 and variance 1; folded into the encoder
    on export, as the scales are."""

    scale_batches: int = 8
    """Batches that the constants are measured on; the run begins with the same ones."""

    # The optimizer

    lr: float = 7e-5
    """Learning rate."""

    betas: tuple[float, float] = (0.0, 0.999)
    """Decay rates of Adam's moments."""

    adam_eps: float = 1e-8
    """Added to the root of Adam's second moment."""

    lr_warmup_steps: int = 1000
    """Steps until the learning rate is full."""

    lr_warmup_from: float = 0.1
    """Factor on the learning rate at the first step."""

    lr_warmup: Shape = "cosine"
    """How it rises."""

    lr_decay: float = 0.0
    """Last part of the run in which the learning rate falls linearly to 0."""

    clip_norm: float | None = None
    """Gradients together are scaled down to this norm."""

    # Sparsity

    sparsity: Sparsity = "l0"
    """The penalty on activations f: `l0`: λ‖f‖₀; `target-l0`: λ(2/T)(‖f‖₀ − T)² for T = `target_l0`;
    `l0-control`: λ max(0, 1 + g r)‖f‖₀, where r = L0/T − 1 of the batch has no gradient and λ is multiplied
    by exp(h r) after each step, g = `control_gain`, h = `control_rate`; `tanh`: λ Σ tanh(c |f| ‖W_dec row‖).
    """

    sparsity_coefficient: float = 0.0
    """λ; for `l0-control` the first one, as a multiple of the squared mean threshold."""

    control_gain: float = 3.0
    """g."""

    control_rate: float = 0.05
    """h."""

    sparsity_warmup_steps: int = 0
    """Steps, after those of `topk_steps`, in which λ rises linearly from 0."""

    target_l0: float | None = None
    """T, for `target-l0` and `l0-control`."""

    calibrate_batches: int = 0
    """Where not 0, all thresholds are multiplied after the last step by the one factor with which that many
    further batches have an L0 of `target_l0`."""

    target_l0_start: float | None = None
    """Where given, T goes linearly from this to `target_l0` in the steps in which λ rises."""

    target_l0_over: Over = "token"
    """Whether the square is taken for each token, or of the mean over the batch."""

    tanh_scale: float = 4.0
    """c, for `tanh`."""

    topk_steps: int = 0
    """Steps at the beginning in which the `topk` · batch largest pre-activations of a batch are active, and
    there is no sparsity penalty. All thresholds follow the one that this takes; they are trained afterwards.
    """

    topk: float = 32.0
    """Active latents per token in those steps."""

    topk_average: float = 0.9
    """How much of the thresholds stays when they follow."""

    preact_coefficient: float = 0.0
    """Factor on Σ ReLU(threshold − z) ‖W_dec row‖ over all latents."""

    frequency_coefficient: float = 0.0
    """Factor on Σ max(0, p − `frequency_limit`), p the part of the batch on which a latent fires."""

    frequency_limit: float = 0.1
    """Frequency from which on a latent is dense."""

    # Dead latents

    dead_after: int = 200
    """Steps without firing after which a latent counts as dead."""

    dead_latents: Dead = "none"
    """What pulls at them: `pre-activation`: ReLU(threshold − z), summed over dead latents; `aux-k`: their
    `dead_k` largest pre-activations reconstruct what the others left over (Gao et al. 2024, who give it a
    factor of 1/32)."""

    dead_coefficient: float = 0.0
    """Factor on that loss."""

    dead_k: int | None = None
    """Dead latents that may be active at once, for `aux-k`; half of `d_out` by default."""

    # The machine

    autocast: bool = False
    """Whether matrix products run in bfloat16. Parameters, moments and losses are float32 all the same."""

    compile_backend: str | None = None
    """Backend of `torch.compile` for the loss. `inductor` makes the constraint's kernels on a GPU, too."""

    log_every: int = 10
    """Steps between metrics."""

    checkpoint_every: int = 1000
    """Steps between checkpoints."""

    keep_checkpoints: int = 2
    """Checkpoints that are kept, the latest ones."""

    @classmethod
    def from_recipe(cls, name: str, **values: Any) -> Self:
        """A configuration with the constants of a recipe; `values` are the sizes and what is to differ.

        Args:
            name: `gemma-scope`, `gemma-scope-2`, `anthropic-jan-2025` or `demo`.
            **values: Fields.

        Raises:
            ConfigError: No such recipe or field, a value that the recipe leaves open is missing, or a field
                is out of range.
        """
        from unitrow.training.recipes import constants

        return cls.from_values({**constants(name, values), "recipe": name, **values})

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """A configuration out of field values, as JSON has them.

        Raises:
            ConfigError: An unknown field, a missing one, or a value out of range.
        """
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise ConfigError(f"{name}: there is no such field")
        for name in ("d_in", "d_out", "d_sae", "steps"):
            if name not in values:
                raise ConfigError(f"{name} must be given")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Fields by name, as JSON has them."""
        return {**asdict(self), "betas": list(self.betas)}

    def __post_init__(self) -> None:
        check_fields(self)
        self.betas = (float(self.betas[0]), float(self.betas[1]))
        check_together(self)
