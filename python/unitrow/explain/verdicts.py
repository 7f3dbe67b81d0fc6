"""The ten verdicts on decoder rows."""

from __future__ import annotations

from unitrow.explain.entry import entry

ENTRIES = (
    entry(
        "unit",
        "",
        "every row is a unit vector, to what a float32 or wider normaliser can leave",
        """Each row's norm, computed in float64, is within a tolerance that follows from the dtype and from
        that row's own elements. There is no fixed constant: honest float32 code leaves 1e-8 on some rows
        and 1e-5 on others.

        The verdict says what the rows are, seldom how they became so. Rows normalised once at the end,
        folded rows and rows kept unit at every step can be the same. Where the figures tell more, `history`
        says so and how strongly. How many steps there were, and who made them, is never inferable. Drift
        smaller than rounding is invisible too.""",
        """Nothing to do. If you measure with `torch.linalg.vector_norm` in float32 and see deviations of
        some 1e-7, that is the rounding of the measurement as much as that of the rows.""",
    ),
    entry(
        "unit-rounded",
        "",
        "unit vectors to the rounding of bfloat16, float16 or an 8-bit format",
        """The rows are unit as far as their coarse format allows. They are stored in it, or were once
        stored in it and widened since (the low bits of each element are zero), or were normalised with its
        arithmetic. Deviations of about 1e-4 to 1e-3 are normal for bfloat16; the whole tolerance is larger.

        Drift below the rounding cannot be seen: in bfloat16 that is up to about 5e-3.""",
        """Nothing to do for most uses. If rows must be unit to float32, convert to float32 and normalise
        again (`unitrow.normalize_rows_`); directions stay as they were rounded.""",
    ),
    entry(
        "unit-eps",
        "",
        "rows fall short of 1 by the mark of division by norm + eps",
        """The rows were divided, as a rule repeatedly, by their norm plus a small constant, mostly the
        machine epsilon of the dtype. Each row then settles a little below 1: by about 1e-7 in float32, by
        0.6 to 0.7 % in bfloat16. dictionary_learning's TopK family divides in this way after each step.

        The same small shortfall can come from one common factor just below 1, so for such files `uniform`
        and `unit` are defensible readings too. The verdict is not given for fewer than 64 rows.""",
        """In float32 it can be ignored. In bfloat16, normalise again in float32 if unit rows matter. In a
        trainer, divide by the norm alone and skip zero rows.""",
    ),
    entry(
        "unit-drifted",
        "",
        "rows are near 1, but further away than rounding explains",
        """The rows were unit and moved, in either direction. The median norm is within 2 % of 1 and 99 % of
        the rows within 10 %; these two limits are conventions.

        Trainers that normalise before the optimiser step and save after it leave one step of drift: SAELens
        3 to 5, openai/sparse_autoencoder, sparsify's SAEs, mlsae, and dictionary_learning's TopK family
        before January 2025. Trainers that only project the gradient drift further with each step.""",
        """For most analyses this is unit. Where exact norms matter, normalise once more
        (`unitrow.normalize_rows_`). In a trainer, normalise after the step.""",
        "dictionary_learning#36",
    ),
    entry(
        "uniform",
        "",
        "all rows share one norm other than 1",
        """To rounding, every row has the same norm c. The rows were normalised and then multiplied by one
        number: an activation scale folded into the weights, a learnt multiplier, or a convention of the
        publisher. The report gives c.""",
        """Directions can be used as they are. To get unit rows, divide the decoder by c and multiply the
        activations by it (encoder weights, encoder bias and threshold, for ReLU and JumpReLU).""",
        "SAELens#354",
    ),
    entry(
        "wrong-axis",
        "",
        "the other axis is unit, the axis of the latents is not",
        """Norms over the latents are 1 and norms of the latents are not. Either the trainer normalised
        along the wrong dimension, or the tensor is stored transposed against its layout. The lengths of
        `b_enc` and `b_dec` tell the two apart.""",
        """If the tensor is transposed, save it transposed back. If not, correct the dimension in the
        trainer. See N_WRONG_AXIS.""",
        "e2e_sae#28",
    ),
    entry(
        "bounded",
        "",
        "no row is longer than 1, a group is at 1, the rest are shorter",
        """The trainer clips: rows longer than 1 are scaled down, shorter ones are left. The lm_saes code of
        2024 does this when the norm is not fixed exactly. The verdict is not given for fewer than 64
        rows.""",
        """Treat the norms as free: a row's length is part of the latent's strength. See N_NOT_UNIT for
        folding.""",
    ),
    entry(
        "free",
        "",
        "the rows have norms of their own",
        """No constraint shows. Trainers that weigh the sparsity penalty by the decoder norm leave norms
        free: SAELens since version 6, Llama Scope, and dictionary_learning's StandardTrainerAprilUpdate.
        Crosscoders do too; there the norms per model are a result.

        Some code keeps free rows in the file and normalises whenever it uses them (e2e_sae, sparse_coding).
        The stored rows are then free by design.""",
        "Nothing, if the trainer is of this kind. If unit rows are needed, see N_NOT_UNIT for folding.",
        "SAELens#463",
    ),
    entry(
        "undecided",
        "",
        "the rows could not be judged",
        """Something that a judgement needs is missing: the axis of the latents is not determined, the
        layout is unknown, values are NaN or infinite, or only a part of the rows was read. It is no
        statement about the norms.

        An undecided checkpoint makes the exit code 3 unless `--expect any` says that norms were not asked
        for.""",
        """Look at the checkpoint's findings, for example L_UNKNOWN, L_AMBIGUOUS_AXIS, V_NAN or V_INF. Each
        says what to do.""",
    ),
    entry(
        "none",
        "",
        "the file holds nothing that could be a decoder",
        """The file was read, its bytes were checked, and no tensor in it has the place of a decoder. When
        every checkpoint of a run is like this, the exit code is 3, unless `--expect any` was given.""",
        "Check the path. Optimiser states and statistics end here rightly.",
    ),
)
