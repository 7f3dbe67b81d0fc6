"""`ST_NAME_` and `ST_METADATA_`: names and free text in a safetensors header."""

from __future__ import annotations

from unitrow.explain.entry import entry

ENTRIES = (
    entry(
        "ST_NAME_UNSAFE",
        "warn",
        "a tensor name can mislead a program or a reader",
        """The name is empty, looks like a path, markup or a spreadsheet formula, resembles `__metadata__`,
        or holds control characters, line breaks, text-direction marks or invisible characters. The format
        allows any string, and the reference loader accepts all of these.

        A NUL cuts the name short for readers in C. A line break forges a line of a report. An escape
        sequence reaches the terminal of whoever prints the name. Ordinary trainers write none of these.""",
        """Find out who wrote the file. To repair it, load the tensors, give them plain names and save
        again. Reports of unitrow show such names escaped.""",
        "safetensors#748",
    ),
    entry(
        "ST_NAME_TOO_LONG",
        "warn",
        "a tensor name is absurdly long",
        """Names of real tensors have tens of characters, seldom more than a few hundred. A very long one
        fills logs and tables, slows every program that prints it, and is more likely a broken or hostile
        writer than a model.""",
        "Look at the name, then write the file again with a short one.",
    ),
    entry(
        "ST_NAME_CONFUSABLE",
        "warn",
        "two tensor names differ only in how their characters are written",
        """It is a warn when the two names are equal after Unicode normalisation (NFC): they look the same
        on screen and are two different tensors. It is a note when they are equal only after case folding
        (`W_dec` and `w_dec`), because folding readers and some file systems treat those as one.

        A program that normalises names keeps one of the two, and it is not said which.""",
        "Rename one of the two tensors and save the file again. Check which one your loader uses.",
        "Unicode Standard Annex #15",
    ),
    entry(
        "ST_BAD_METADATA",
        "fail",
        "`__metadata__` is not an object of strings",
        """The format allows one special entry, `__metadata__`, whose values are strings. Here it is
        something else, or one of its values is a number, a list, an object or null. The reference loader
        rejects such a file.

        Writers that put a nested configuration there without encoding it as a string produce it. So does a
        tensor that was named `__metadata__`.""",
        "Encode each value as a string, for example with `json.dumps`, and save again.",
        "safetensors README: `__metadata__` is a map of string to string",
    ),
    entry(
        "ST_METADATA_NULL",
        "warn",
        "`__metadata__` is null",
        """The entry is present with the value null. The format wants an object or no entry at all. The
        reference loader lets it pass; a strict reader does not. No tensor is affected.""",
        "Leave the entry out when there is nothing to say, and save again.",
        "safetensors README: `__metadata__` is a map of string to string",
    ),
    entry(
        "ST_METADATA_ODD",
        "note",
        "a metadata key or value is empty",
        """The format allows it, and no tensor is affected. It may show that a script lost a variable while
        it wrote the file.""",
        "Nothing has to be done. If the file is yours, look at what the writer meant to say.",
    ),
    entry(
        "ST_METADATA_UNSAFE",
        "warn",
        "a metadata entry holds control characters or other active text",
        """The text holds escape sequences, control characters, text-direction marks or the like. Programs
        that print metadata as it stands would send them to the terminal or into a page. Ordinary trainers
        write no such text.""",
        """Do not print the metadata with other tools before you know what it is. To repair the file, load
        the tensors and save them with clean metadata. Reports of unitrow show the text escaped.""",
    ),
    entry(
        "ST_METADATA_HASH",
        "warn",
        "the data section does not have the digest that the metadata names",
        """A metadata key (`sha256`, `data_sha256` or `format_sha256`) gives a digest, and the bytes have
        another one. Such keys are a custom of some writers and no part of the format. The whole data
        section is hashed for this check.

        Either the bytes changed after the digest was written, or a tool changed the tensors and copied the
        old metadata along. The second is common after a cast or a merge.""",
        """Compare the file with the publisher's own digest. If that one agrees, the metadata is stale. If
        not, fetch the file again.""",
    ),
)
