"""`V_`: the numbers in the tensors, whatever they are used for."""

from __future__ import annotations

from unitrow.explain.entry import entry

ENTRIES = (
    entry(
        "V_NAN",
        "fail",
        "a tensor holds NaN",
        """At least one element is not a number. Everything computed from it is NaN, so norms are not judged
        and the verdict is `undecided`. It is a note in buffers where the layout allows it, such as running
        statistics that were never filled.

        Three causes are common: training diverged; a row of zeros was divided by its norm without a guard;
        the bytes are damaged or in the wrong byte order.""",
        """See which rows are hit. A few whole rows point to a division by zero: set them to zero or train
        again. A block that ends inside a row, or NaN scattered over everything, points to the bytes:
        compare the digest with the publisher's and fetch the file again.""",
        "SAELens#588",
    ),
    entry(
        "V_INF",
        "fail",
        "a tensor holds infinity",
        """At least one element is infinite, so norms are not judged and the verdict is `undecided`. A cast
        to a format with a smaller range (float16 ends at 65504) and divergence in training produce it, and
        so does damage.""",
        """Look at the same tensor before the last cast. If it was finite there, keep it in bfloat16 or
        float32. If not, fetch the file again or go back to an earlier checkpoint.""",
    ),
    entry(
        "V_BAD_BOOL",
        "fail",
        "a boolean tensor holds bytes other than 0 and 1",
        """A BOOL element is one byte, 0 or 1. Other values have no defined meaning: some programs count
        them as true, compiled code may behave in any way. The header's dtype is wrong, or the bytes are
        damaged.""",
        "Find out what the tensor should be. Save it again as 0 and 1, or with its real dtype.",
    ),
    entry(
        "V_ZERO_PAGES",
        "fail",
        "whole pages of the file are zero inside a tensor that is not",
        """Runs of 4096 bytes, aligned to the file and not to the rows, are all zero, while rows elsewhere
        have values. Training does not know where a file's pages begin; storage does. It is a warn where
        rows and pages coincide and the run could be real.

        A save that was killed after the file had got its full size leaves a tail of zeros. So does a power
        loss before the data reached the disk, and a download cache that lost blocks. Name, size and header
        are right, so only values or a digest show it.""",
        "Compare the digest with the publisher's and fetch the file again. If you wrote it, save it again.",
        "huggingface_hub#3643",
    ),
    entry(
        "V_ALL_ZERO",
        "warn",
        "every element of a tensor is zero",
        """A matrix of zeros does nothing. It is a note for tensors that may be zero: biases and thresholds
        of a fresh model, and decoders that their trainer starts at zero. It is a fail where the file also
        has ranges that were never written.

        The tensor was never trained, was never loaded before it was saved, or its bytes were lost.""",
        """Check that training reached this tensor. For a published file, compare its digest and fetch it
        again.""",
    ),
    entry(
        "V_ZERO_ROW",
        "warn",
        "rows of a matrix are zero",
        """Some rows have no non-zero element. In a decoder such a latent writes nothing; R_ZERO_ROW says
        more about those. Rows that were reset, pruned or never trained look like this, and so do bytes that
        were lost.""",
        """Check whether these rows are meant to be empty. If not, compare the digest and fetch the file
        again.""",
    ),
    entry(
        "V_OUTLIER",
        "warn",
        "a few values are far outside the rest",
        """Some elements are larger than all others by a factor that training seldom gives. One flipped bit
        in an exponent does this. So can real training, so it is no proof.""",
        "Look at these elements. Compare the digest with the publisher's.",
    ),
    entry(
        "V_SUSPECT_ENDIAN",
        "warn",
        "the values make sense only with their bytes swapped",
        """As they stand, the values are spread over the whole range of the format, as no weights are. With
        the byte order reversed they look ordinary. safetensors is little-endian by definition; the writer
        probably ran on a big-endian machine or passed on big-endian data.""",
        "Swap the bytes (`array.byteswap()`), look at the values, and save the file again.",
        "safetensors README: values are little-endian",
    ),
    entry(
        "V_FOREIGN_TEXT",
        "warn",
        "a stretch of text lies among the weights",
        """Bytes of a float tensor read as text, for example an error page of a server. A download that
        resumed after a failure can splice such a page into the data without changing the size.""",
        "Compare the digest with the publisher's and fetch the whole file again, without resuming.",
    ),
    entry(
        "V_ROW_NORM_OVERFLOW",
        "warn",
        "the sum of squares of a row leaves the range of its dtype",
        """The elements are finite, but their squares add up to more than the dtype can hold. Programs that
        compute the norm in that dtype get infinity. Unitrow computes it without overflow. Values of this
        size, about 1e19 and above in float32, are seldom meant.""",
        "Check the tensor for damage or divergence.",
    ),
    entry(
        "V_SUBNORMAL",
        "note",
        "a whole row is subnormal",
        """All elements of a row are so small that they have lost precision. Programs that flush subnormal
        numbers see a row of zeros, and their norm of it is 0. Unitrow does not flush. Weight decay on a
        latent that never fires can end here.""",
        "Treat the row as dead, or scale it before you use it.",
    ),
    entry(
        "V_DUP_BLOCK",
        "note",
        "a block of data occurs twice",
        """Two blocks of the file have the same bytes. A write that went to the wrong place, or a resumed
        download, can do this. Rows copied on purpose do it too.""",
        "Compare the digest with the publisher's. If it agrees, the copy is in the original.",
    ),
)
