"""`ST_`: the header, the entries and the data of a safetensors file; names and metadata are in `names`."""

from __future__ import annotations

from unitrow.explain.entry import entry

ENTRIES = (
    entry(
        "ST_TOO_SHORT",
        "fail",
        "fewer than 8 bytes, so not even a header length",
        """A safetensors file begins with the length of its header in 8 bytes, and this file ends before
        that. It was cut off at its start, or it is no safetensors file.""",
        "Fetch or save the file again.",
        "safetensors README: 8 bytes of header length come first",
    ),
    entry(
        "ST_HEADER_TOO_LARGE",
        "fail",
        "the header claims more than 100,000,000 bytes",
        """The first 8 bytes, read as a little-endian number, exceed the limit of the format. Real headers
        have a few hundred bytes to a few megabytes. Mostly the file is something else and its first
        characters were taken for a number, or its beginning was overwritten.""",
        """Look at the first bytes (`head -c 64 FILE | xxd`). If they are text, it is a pointer or an error
        page. Fetch the file again.""",
        "safetensors README: header size is limited to 100 MB",
    ),
    entry(
        "ST_TRUNCATED_HEADER",
        "fail",
        "the file ends inside its header",
        """The header length is plausible, and the file is shorter than the header alone. The download or
        the copy stopped early, or the length itself is damaged.""",
        "Fetch the file again and compare its size with the publisher's.",
    ),
    entry(
        "ST_HEADER_NOT_OBJECT",
        "fail",
        "the header does not begin with `{`",
        """The byte after the header length must be an opening brace. Here it is something else: a list,
        another text encoding such as UTF-16, zeros where a first page was lost, or the inside of another
        format.

        A header length of 0 gives this finding too.""",
        "Look at the first bytes (`head -c 64 FILE | xxd`), then fetch or save the file again.",
        "safetensors README: the header must begin with `{`",
    ),
    entry(
        "ST_NOT_UTF8",
        "fail",
        "the header is not valid UTF-8",
        """Some bytes of the header form no character. Damage in storage or transfer does this, and so does
        a writer with another text encoding. Overlong forms and encoded surrogates count as invalid, because
        readers differ on them.""",
        "Fetch the file again. If it is as published, its writer has to be corrected.",
        "RFC 3629",
    ),
    entry(
        "ST_JSON_SYNTAX",
        "fail",
        "the header is not valid JSON",
        """The header must be one JSON object, followed by spaces only. The message gives the place of the
        error. A header length that is too small cuts the object; one that is too large takes in tensor
        bytes. Hand-made writers leave trailing commas, comments, or NUL bytes as padding.""",
        "Fetch the file again. If it is as published, write it again with the safetensors library.",
        "RFC 8259",
    ),
    entry(
        "ST_JSON_DEPTH",
        "fail",
        "the header is nested more than 128 levels deep",
        """A safetensors header needs three levels. Deep nesting exists to exhaust the stack of a recursive
        parser. No ordinary writer produces it.""",
        "Treat the file as hostile until its origin is known. Write it again from trusted tensors.",
        "RFC 8259, section 9: a parser may limit the depth",
    ),
    entry(
        "ST_HEADER_LEADING_WS",
        "warn",
        "white space stands before the header's `{`",
        """The format wants the brace at byte 8. The reference loader skips white space there, and a reader
        that follows the text of the format rejects the file. The tensors are not affected.""",
        "Save the file again with the safetensors library.",
        "safetensors README: the header must begin with `{`",
    ),
    entry(
        "ST_HEADER_PADDING",
        "warn",
        "the header is padded with something other than spaces",
        """A header may be filled up with spaces (0x20) to align the data. Here line feeds, returns or tabs
        do it. The reference loader takes them; a strict reader does not. The tensors are not affected.""",
        "Save the file again with the safetensors library.",
        "safetensors README: trailing padding is whitespace 0x20",
    ),
    entry(
        "ST_HEADER_OVERSIZE",
        "warn",
        "the header is larger than 8 MiB",
        """The header is allowed, but unusual: a file with 100,000 tensors needs about 6 MB. Large texts in
        the metadata are the common cause. Each reader parses all of it before the first tensor.""",
        "Move long texts into a file beside the weights. Join very many tiny tensors if you can.",
    ),
    entry(
        "ST_DUP_NAME",
        "fail",
        "two tensors have the same name",
        """The header lists one name more than once, perhaps spelt with an escape (`te\\u0073t` is `test`).
        The format forbids it. safetensors 0.8.0 accepts the file and keeps the last entry. A program that
        keeps the first loads other weights from the same bytes. A duplicate can also hide that entries
        overlap or leave a hole.""",
        "Do not use the file before its writer is understood. Write it again with one entry per tensor.",
        "safetensors README: duplicate keys are disallowed",
        "safetensors#401",
        "llama.cpp#1603",
    ),
    entry(
        "ST_DUP_KEY",
        "fail",
        "a key of the header stands twice in one object",
        """A key other than a tensor name is repeated: `__metadata__`, one of its keys, or a field of an
        entry. Which of the two counts depends on the reader.""",
        "Write the file again with each key once.",
        "safetensors README: duplicate keys are disallowed",
    ),
    entry(
        "ST_BAD_ENTRY",
        "fail",
        "a tensor's entry is not an object with dtype, shape and data_offsets",
        """The entry is of another kind, or one of its three fields is missing, or the dtype is not a
        string. Some of these forms are accepted by safetensors 0.8.0, such as the list
        `["I32",[2,2],[0,16]]` in place of an object.""",
        "Write the file again with the safetensors library.",
        "safetensors README: format of an entry",
    ),
    entry(
        "ST_BAD_DTYPE",
        "fail",
        "the dtype is none that the format knows",
        """The name of the dtype is not in the table of the format (22 names in safetensors 0.8.0). Either
        the writer invented or misspelt it, or the file uses a newer version of the format. The tensor's
        size is not judged, since the size of its elements is unknown.""",
        """Check for a newer release of unitrow and of safetensors. If neither knows the dtype, save the
        tensor in one that they do.""",
        "safetensors docs: table of dtypes",
    ),
    entry(
        "ST_BAD_SHAPE",
        "fail",
        "the shape is not a list of non-negative integers",
        """A dimension is negative, fractional, quoted, a boolean or beyond 64 bits, or the shape is no
        list. Notations such as `2.0`, `2e0` and `-0` count as errors too, since readers disagree on
        them.""",
        "Write the file again with plain integers.",
        "safetensors README: format of an entry",
    ),
    entry(
        "ST_BAD_OFFSETS",
        "fail",
        "data_offsets is not a pair of integers in order",
        """The field must be `[begin, end]` with 0 <= begin <= end, both counted from the start of the data.
        It has another number of items, another type, negative or fractional numbers, or end before begin.
        Where the tensor lies is unknown, so its values were not read.""",
        "Fetch the file again. If it is as published, write it again with the safetensors library.",
        "safetensors README: format of an entry",
    ),
    entry(
        "ST_EXTRA_FIELD",
        "warn",
        "a tensor's entry has a field that the format does not define",
        """The format defines dtype, shape and data_offsets. The reference loader ignores anything else. If
        the writer meant something by it, such as strides, then readers that ignore it load wrong
        values.""",
        "Find out what the field means to the writer. Save the file again without it.",
        "safetensors docs: the JSON schema allows no additional properties",
    ),
    entry(
        "ST_OVERFLOW",
        "fail",
        "the size that the shape asks for does not fit in 64 bits",
        """Dimensions multiplied from left to right, times the bits of the dtype, exceed what can be
        counted. No real tensor is that large. A reader that multiplies without a check gets a wrong
        size.""",
        "Treat the file as damaged or hostile. Fetch it again from its source.",
    ),
    entry(
        "ST_RANK_LIMIT",
        "warn",
        "a tensor has more than 64 dimensions",
        """The format sets no limit, numpy stops at 64. The file opens and the tensor cannot be loaded as an
        array. Tensors of models seldom have more than five.""",
        "Reshape the tensor and save the file again.",
    ),
    entry(
        "ST_SHAPE_IMPLAUSIBLE",
        "warn",
        "a tensor without elements has absurd dimensions",
        """One dimension is 0, so the tensor holds nothing, and another is larger than any real one. The
        header is valid, but loading the tensor fails in libraries that limit each dimension.""",
        "Find out what wrote the shape. Leave the empty tensor out and save the file again.",
    ),
    entry(
        "ST_SUBBYTE",
        "fail",
        "the tensor's bits do not fill whole bytes",
        """The dtype has 4 or 6 bits per element and the number of elements gives a fraction of a byte. The
        format wants whole bytes, and the reference loader rejects the tensor.""",
        "Pad the tensor to a whole number of bytes and save it again.",
        "safetensors 0.8: MisalignedSlice",
    ),
    entry(
        "ST_SUBBYTE_ROW",
        "warn",
        "rows of a 4-bit or 6-bit tensor begin inside a byte",
        """The tensor as a whole fills its bytes, and its last dimension does not. One row ends and the next
        begins in the same byte. Readers that address rows by bytes cut at the wrong place.""",
        "Pad the last dimension so that each row fills whole bytes.",
    ),
    entry(
        "ST_SIZE_MISMATCH",
        "fail",
        "shape and dtype need another number of bytes than the offsets give",
        """The product of the shape times the size of the dtype is not end - begin. One of the three is
        wrong. A reader that trusts the shape reads its neighbour's bytes.

        A script that casts the data and leaves the old dtype in the header does this.""",
        "Write the file again with the safetensors library, which derives the offsets itself.",
        "safetensors 0.8: TensorInvalidInfo",
    ),
    entry(
        "ST_HOLE",
        "fail",
        "bytes of the data belong to no tensor",
        """Between two tensors, or before the first, lie bytes that no entry owns. The format forbids it, so
        that nothing can be hidden in a file. A reader that does not check loads the tensors all the same
        and never sees these bytes.""",
        "Ask for the reason. Load the tensors and save them to a new file, which has no holes.",
        "safetensors README: the byte buffer needs to be entirely indexed, without holes",
    ),
    entry(
        "ST_OVERLAP",
        "fail",
        "two tensors share bytes",
        """The ranges of two entries overlap. The format forbids it. Thousands of entries on one range make
        a small file that loads into a huge amount of memory; one wrong pair means that at least one tensor
        holds wrong values. Tied weights are no reason: they are stored once.""",
        "Do not load the file before its writer is understood. Write it again with one range per tensor.",
        "safetensors 0.8: InvalidOffset",
    ),
    entry(
        "ST_TRUNCATED_DATA",
        "fail",
        "the file ends before its last tensor does",
        """The header is sound and promises more data than the file has. The message says how much is
        missing. Tensors that lie wholly before the end are complete, the others are not.

        An interrupted download, a full disk and a copy from a file still being written leave such a
        file.""",
        "Fetch the file again, or resume the download. Compare the size with the publisher's.",
        "safetensors 0.8: MetadataIncompleteBuffer",
    ),
    entry(
        "ST_TRAILING_BYTES",
        "fail",
        "bytes follow the last tensor",
        """The file is longer than its header accounts for. The tensors themselves may be intact. Two
        downloads joined in one file, a newer file written over a longer old one, and something appended on
        purpose look alike at this point; the message names a known format if one begins there.""",
        """Compare size and SHA-256 with the publisher's and fetch the file again. To keep the tensors, load
        them with a reader that tolerates the rest, and save them anew.""",
        "safetensors 0.8: MetadataIncompleteBuffer",
        "ComfyUI#15602",
    ),
    entry(
        "ST_EMPTY_TENSOR",
        "note",
        "a tensor has no elements",
        """One of its dimensions is 0. The format allows it. In a checkpoint it mostly means that something
        was sliced or filtered away before saving.""",
        "Nothing, if it was meant. Otherwise look at the script that saved the file.",
    ),
    entry(
        "ST_NO_TENSORS",
        "note",
        "the file is valid and holds no tensor",
        """The container is sound and empty, except perhaps for metadata. A save of an empty state dict
        gives such a file.""",
        "Check that this is the right file, and look at what the script handed to the writer.",
        "safetensors#466",
    ),
    entry(
        "ST_UNALIGNED_DATA",
        "note",
        "the data does not begin at a multiple of 8 bytes",
        """The header length is no multiple of 8, so the tensors' places in the file are not aligned. The
        values are right. A reader that maps the file has to copy such tensors before some operations. The
        reference writer pads its headers; other writers may not.""",
        "Save the file again with the safetensors library if loading speed matters.",
        "safetensors#607",
        "safetensors#695",
    ),
    entry(
        "ST_UNALIGNED_TENSOR",
        "warn",
        "a tensor does not begin at a multiple of its element size",
        """The tensor's offset is, for example, odd for a float32. The values are right. Readers that map
        the file must copy the tensor, and careless ones in C fault or slow down. It happens when a small
        tensor of bytes comes before wider ones; the reference writer sorts the wide ones first.""",
        "Save the file again with the safetensors library.",
        "safetensors#231",
        "safetensors#607",
    ),
)
