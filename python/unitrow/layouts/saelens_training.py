"""What SAELens did to decoder rows, version by version, as far as its configuration tells.

Until 5.x the trainer divided rows by their norm at the start of each step and saved after the
optimiser's; `normalize_sae_decoder` switched that off. Release 6.0 removed it: rows are free, and the
sparsity penalty is multiplied by their norms instead. The top-k family folds row norms into the
encoder when it saves for inference, if it was trained with `rescale_acts_by_decoder_norm`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from unitrow.layouts.config import as_flag, as_text, major_version

if TYPE_CHECKING:
    from unitrow.layouts.config import Config

FREE_SINCE = 6
"""First release without decoder normalisation."""

RENORMALISED_BEFORE_SAVE_UNTIL = 2
"""Last release that normalised once more right before it saved."""

TOP_K_FAMILY = frozenset({"topk", "batchtopk", "abstopk", "matryoshka_batchtopk"})

_TRAINING_ONLY_KEY = "decoder_init_norm"
"""A key that training configurations have and inference configurations lack."""


class Expectation(NamedTuple):
    """What to expect of the rows, and why."""

    expected: str
    why: str
    order_explains_drift: bool = False


def expectation(config: Config, runner: Config, architecture: str | None) -> Expectation:
    """Judge by `cfg.json` and, for what it leaves out, `runner_cfg.json`."""
    if not config.values:
        return Expectation("unknown", "no configuration says which trainer made these weights")
    if architecture is not None and "transcoder" in architecture:
        return Expectation(
            "unknown",
            "sae-lens stores transcoders but has no trainer for them: these weights were imported",
        )
    normalized = as_flag(_either(config, runner, "normalize_sae_decoder"))
    version = _training_version(config)
    if architecture == "temporal":
        return Expectation("no", "temporal SAEs are trained without any rule for decoder norms")
    if version is not None and version >= FREE_SINCE:
        return _since_6(config, architecture, version)
    if normalized is not None:
        return _until_5(config, runner, version, normalized=normalized)
    why = "cfg.json does not say that sae-lens trained these weights"
    if version is not None:
        why = f"sae-lens {version}.x normalised decoder rows unless told otherwise, and cfg.json does not say"
    return Expectation("unknown", why)


def _until_5(config: Config, runner: Config, version: int | None, *, normalized: bool) -> Expectation:
    if not normalized:
        penalty = as_flag(_either(config, runner, "scale_sparsity_penalty_by_decoder_norm"))
        instead = ", and the sparsity penalty was scaled by row norms instead" if penalty else ""
        return Expectation("no", f"cfg.json says normalize_sae_decoder = false{instead}")
    if as_text(runner.values.get("normalize_activations")) == "expected_average_only_in":
        return Expectation(
            "no", "rows were normalised in training and divided by the activations' mean norm when it ended"
        )
    if version is not None and version <= RENORMALISED_BEFORE_SAVE_UNTIL:
        return Expectation(
            "yes", f"sae-lens {version}.x normalised decoder rows at each step and once more before it saved"
        )
    return Expectation(
        "yes",
        "cfg.json says normalize_sae_decoder = true: rows were normalised at the start of each step and "
        "saved after the optimiser's",
        order_explains_drift=True,
    )


def _since_6(config: Config, architecture: str | None, version: int) -> Expectation:
    trained_as = as_text(config.section("metadata").get("training_architecture"))
    kind = trained_as or architecture
    if kind not in TOP_K_FAMILY:
        return Expectation("no", f"sae-lens {version}.x leaves decoder rows free in training")
    if _TRAINING_ONLY_KEY in config.values:
        return Expectation(
            "no",
            f"a training checkpoint of sae-lens {version}.x: decoder rows are free until the export",
        )
    details = config.section("metadata").get("training_architecture_details")
    rescaled = as_flag(config.values.get("rescale_acts_by_decoder_norm"))
    if isinstance(details, dict):
        rescaled = as_flag(details.get("rescale_acts_by_decoder_norm", rescaled))
    if trained_as is not None and rescaled:
        return Expectation(
            "yes",
            f"a {kind} SAE of sae-lens {version}.x with rescale_acts_by_decoder_norm: row norms are folded "
            "into the encoder on export",
        )
    if rescaled is False or (rescaled is None and trained_as is None):
        return Expectation(
            "no", f"sae-lens {version}.x leaves decoder rows of {kind} SAEs free and this one was not folded"
        )
    return Expectation(
        "unknown",
        f"sae-lens {version}.x can fold row norms of {kind} SAEs on export, and cfg.json does not say it did",
    )


def _training_version(config: Config) -> int | None:
    """Return the major version of the trainer; a null says that the weights were imported."""
    metadata: dict[str, Any] = config.section("metadata")
    for values in (metadata, config.values):
        if "sae_lens_training_version" in values:
            return major_version(values["sae_lens_training_version"])
    return None


def _either(config: Config, runner: Config, key: str) -> object:
    return config.values.get(key, runner.values.get(key))
