"""`N_` and `R_`: what the row norms mean under `--expect`.

The severity given here is the one under the default `--expect auto`, where it depends on whether the layout's
trainer keeps rows unit: the stricter of the two.
"""

from __future__ import annotations

from unitrow.explain.entry import entry

ENTRIES = (
    entry(
        "N_NOT_UNIT",
        "fail",
        "the decoder rows are not unit vectors",
        """The verdict is `free` or `bounded`. Many trainers leave norms free on purpose and put them into
        the sparsity penalty instead. Where the trainer is known to keep rows unit, something is different
        about this file: a later fold or scaling, an edit, or a run with that constraint switched off.

        Code that takes activations for strengths, or compares decoder rows by dot product, misreads such a
        file.

        Severity: with `--expect auto`, fail where the layout's trainer keeps rows unit, else note. With
        `--expect unit`, fail. With `--expect any`, note.""",
        """If unit rows are needed and the activation is ReLU or JumpReLU, fold the norms: divide each
        decoder row by its norm and multiply the latent's encoder weights, encoder bias and threshold by it.
        The function stays the same. In a TopK layer other activations then become the largest, so the
        function changes, unless the trainer already ranked activations times norms (SAELens
        `rescale_acts_by_decoder_norm`).

        Otherwise use the norms where you use the rows, and pass `--expect any`.""",
        "SAELens#463",
        "SAELens#544",
    ),
    entry(
        "N_UNIFORM_SCALE",
        "warn",
        "all decoder rows share one norm that is not 1",
        """The verdict is `uniform`. The rows were made equal, and one factor was applied to all of them.
        Folding an activation scale into the decoder does it (SAELens 3 to 5 did so for
        `normalize_activations: expected_average_only_in`), and so does a learnt or configured multiplier.

        Directions are not affected. Activations are in other units than those of a unit decoder.

        Severity: with `--expect auto`, warn where the layout's trainer keeps rows unit, else note. With
        `--expect unit`, fail. With `--expect any`, note.""",
        """Nothing, if the factor is the activation scale of the dataset. To get unit rows, divide the
        decoder by the factor and multiply the activations by it.""",
        "SAELens#354",
    ),
    entry(
        "N_WRONG_AXIS",
        "fail",
        "the other axis of the decoder is unit, the latents' is not",
        """The verdict is `wrong-axis`. Each column over all latents has norm 1, and the rows that belong to
        latents have not. A trainer that normalises along the wrong dimension produces it, an easy slip
        between [latents, width] and [width, latents]. So does a file whose decoder is stored the other way
        round than its layout says.

        Severity: fail with `--expect auto` and `--expect unit`, warn with `--expect any`.""",
        """Check the shape against the lengths of `b_enc` (latents) and `b_dec` (width). If the tensor is
        transposed, save it transposed back. If not, correct the dimension in the trainer; the training
        itself ran under the wrong constraint.""",
        "e2e_sae#28",
    ),
    entry(
        "N_DRIFTED",
        "warn",
        "the decoder rows are near unit, further away than rounding explains",
        """The verdict is `unit-drifted`. Trainers that normalise before the optimiser step and save after
        it leave one step of drift in the file. Trainers that only project the gradient drift more with
        every step.

        Severity: with `--expect auto`, note where the order in which the layout's trainer works explains
        the drift, else warn. With `--expect unit`, warn. With `--expect any`, note.""",
        """Normalise once more after the last step, before saving (`unitrow.normalize_rows_`). In your own
        trainer, normalise after the optimiser step.""",
        "dictionary_learning#36",
    ),
    entry(
        "N_EPS_BIAS",
        "note",
        "the decoder rows are short by the mark of norm + eps",
        """The verdict is `unit-eps`. The rows were divided by their norm plus a small constant. In float32
        the rows are short by about 1e-7 and it does not matter. In bfloat16 the constant is 2^-7 and the
        rows end 0.6 to 0.7 % short, which does show.

        Severity: note with every `--expect`.""",
        """In your own trainer, divide by the norm and skip zero rows, in place of adding a constant. For a
        file in bfloat16, normalise once in float32 if unit rows are needed.""",
    ),
    entry(
        "N_UNEXPECTED_UNIT",
        "note",
        "the rows are unit although the layout's trainer leaves them free",
        """Someone normalised the file after training, or folded the norms into the encoder. SAELens folds
        the decoders of TopK models trained with `rescale_acts_by_decoder_norm` when it saves them for
        inference. The function may have changed or not: norms alone do not say which.

        Severity: note with every `--expect`.""",
        """Nothing has to be done. If the file should be as trained, compare its digest with the original's,
        and check that encoder, bias and threshold carry the norms.""",
        "SAELens#565",
    ),
    entry(
        "R_ZERO_ROW",
        "warn",
        "decoder rows are zero where the layout does not provide for it",
        """A zero row has no direction; its latent writes nothing. It was pruned, reset, or never trained in
        a decoder that starts at zero. Zero rows are counted and take no part in the verdict. Dividing such
        a row by its norm gives NaN.

        Severity: warn with `--expect auto` and `--expect unit`, note with `--expect any`.""",
        """Leave these latents out of analyses. If they should be alive, look at their training, or fetch
        the file again.""",
    ),
)
