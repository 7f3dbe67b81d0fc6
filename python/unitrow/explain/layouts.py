"""`L_`: which tensors are decoders, and whether the files beside them agree."""

from __future__ import annotations

from unitrow.explain.entry import entry

ENTRIES = (
    entry(
        "L_UNKNOWN",
        "unreadable",
        "tensors look like a decoder, but no known layout fits",
        """The file holds matrices that could be decoders, and its tensor names and the files beside it
        belong to no layout in the catalogue. Which axis counts the latents is then a guess, and unitrow
        does not guess. It is a note with `--expect any`.

        Home-made exports, renamed tensors and weights without their config are the usual cases.""",
        """Put the config back beside the weights if it was left behind. Or save the tensors under names of
        a known layout: `W_enc`, `W_dec`, `b_enc` and `b_dec` with a `cfg.json`, as SAELens does. For one
        array, `unitrow.row_norms(array, axis=...)` measures along the axis that you name.""",
    ),
    entry(
        "L_AMBIGUOUS_AXIS",
        "unreadable",
        "it is not determined which axis of the decoder counts the latents",
        """Publishers store decoders both ways round, even under one name: `W_dec` is [latents, width] in
        SAELens and [width, latents] in others. The lengths of `b_enc` and `b_dec` decide, or the config.
        Here they are absent, contradict each other, or fit both axes. The finding is a note with `--expect
        any`.

        Measuring the wrong axis gives a confident and wrong answer, so the verdict is `undecided`.""",
        """Keep the encoder bias, the decoder bias and the config with the weights. Or measure both axes
        with `unitrow.row_norms(array, axis=...)`.""",
    ),
    entry(
        "L_NO_DECODER",
        "note",
        "the file holds nothing that could be a decoder",
        """No tensor of the file has the shape of a decoder: optimiser state, statistics, or a model of
        another kind. The bytes were checked, norms do not apply, and the verdict is `none`.""",
        """Nothing, if this is expected. A run in which every checkpoint is like this ends with exit code 3,
        unless `--expect any` was given.""",
    ),
    entry(
        "L_CONFIG_MISMATCH",
        "fail",
        "the config and the weights disagree",
        """The config states one thing and the tensors show another: number of latents, width, dtype, or
        whether there is a skip connection. A loader that builds the model from the config fails, converts
        the weights, or loads a part of them. The message gives both values.

        Configs copied from another run and edited by hand do this. So do exports that transpose or cut
        tensors.""",
        "Find out which of the two is right. Correct the config, or fetch the weights that belong to it.",
    ),
    entry(
        "L_MISSING_TENSOR",
        "fail",
        "a tensor that the layout needs is absent",
        """The layout was recognised, but a tensor that its function needs is missing, for example the
        threshold of a JumpReLU. Loaders fail, or fill the gap with zeros or initial values and compute
        something else than the model that was trained.""",
        "Fetch the checkpoint again. If it is yours, save the whole state dict.",
    ),
    entry(
        "L_NEGATIVE_THRESHOLD",
        "warn",
        "a JumpReLU threshold is below zero",
        """A JumpReLU passes what is above its threshold. Trainers keep the threshold positive, often by
        storing its logarithm. A negative one lets negative activations through. Either the logarithm was
        saved in the place of the threshold, or the training had no such guard.""",
        """Compare with how the trainer stores it: if these values are logarithms, save their exponentials
        as `threshold`.""",
    ),
)
