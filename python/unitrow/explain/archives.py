"""`Z_` and `NPY_`: zip archives (.npz) and the numpy arrays in them."""

from __future__ import annotations

from unitrow.explain.entry import entry

_SAVE_AGAIN = "Fetch the file again. If it is as published, write it again with `numpy.savez`."

ENTRIES = (
    entry(
        "Z_NO_EOCD",
        "fail",
        "the zip archive has no end record",
        """A zip file closes with a record that says where its list of members is, and none was found. The
        file was cut off, or it is no zip archive.""",
        "Fetch the file again and compare its size with the publisher's.",
        "PKWARE APPNOTE, section 4.3.16",
    ),
    entry(
        "Z_AMBIGUOUS_EOCD",
        "fail",
        "more than one end record could be meant",
        """The archive can be read in two ways, with two lists of members. Two programs can then load
        different arrays from the same bytes. An end record inside the archive comment does this; numpy
        reads such a file without a word.""",
        "Do not use the file before its writer is understood. " + _SAVE_AGAIN,
    ),
    entry(
        "Z_CRC",
        "fail",
        "a member's bytes do not have the checksum that the archive states",
        """Every member of a zip archive carries a CRC-32. This one differs from its data: bytes changed in
        storage or transfer, or the checksum was falsified. Some pickle scanners give up on such a member
        and report nothing.""",
        "Fetch the file again.",
        "CVE-2025-10156",
    ),
    entry(
        "Z_INFLATE",
        "fail",
        "a compressed member cannot be decompressed",
        "The deflate stream is damaged or ends early. The values of this member could not be read.",
        "Fetch the file again.",
        "RFC 1951",
    ),
    entry(
        "Z_METHOD",
        "fail",
        "a member is compressed in a way that numpy archives do not use",
        """Members written by numpy are stored (0) or deflated (8). Another method was named, so the member
        was not read. numpy may not read it either.""",
        "Unpack the archive with a general tool and write it again with `numpy.savez`.",
    ),
    entry(
        "Z_ENCRYPTED",
        "fail",
        "a member is marked as encrypted",
        """The encryption flag is set, so the member was not read. numpy and torch write no encrypted
        archives. The flag has also been set on plain members to make scanners skip them.""",
        "Decrypt the archive if it is yours. Otherwise treat the file as hostile.",
        "CVE-2025-1945",
    ),
    entry(
        "Z_LOCAL_CENTRAL_MISMATCH",
        "fail",
        "a member's own header and the archive's list disagree",
        """A zip archive describes each member twice: before its data, and in the central directory at the
        end. Name, size, method or checksum differ here. Some readers go by the one, some by the other.
        numpy accepts several of these lies about size.""",
        "Do not use the file before its writer is understood. " + _SAVE_AGAIN,
        "CVE-2025-1944",
    ),
    entry(
        "Z_OVERLAP",
        "fail",
        "two members share bytes of the archive",
        """The records of two members overlap. Zip bombs are built this way, and one member can be hidden in
        another. numpy accepts such files.""",
        "Treat the file as hostile. Write it again from trusted arrays.",
        "CVE-2019-13232",
    ),
    entry(
        "Z_DUP_NAME",
        "fail",
        "two members have the same name",
        "Which of the two is loaded depends on the reader. numpy takes one and does not mention the other.",
        "Find out which one is right, then write the archive again with each name once.",
    ),
    entry(
        "Z_PATH",
        "fail",
        "a member's name is an absolute path or leaves the folder",
        """A name such as `/etc/x` or `../x` writes outside the folder when the archive is unpacked with a
        careless tool. Reading arrays from it does no harm by itself. numpy writes plain names.""",
        "Do not unpack the archive. Write it again with plain names.",
        "CWE-22",
    ),
    entry(
        "Z_SYMLINK",
        "fail",
        "a member is a symbolic link",
        """The member's mode says that it is a link. Unpacked, it points to another place of the machine.
        Numpy archives never hold links.""",
        "Do not unpack the archive. Write it again from trusted arrays.",
        "CWE-59",
    ),
    entry(
        "Z_BOMB",
        "fail",
        "a member grows to a suspicious size when it is decompressed",
        """A few bytes of the archive become a very large array. Reading stops at a limit, so the values
        were not all judged. Trained weights hardly compress at all; such a ratio means constant data or an
        attack on memory.""",
        "Find out what the member should hold. If it is right, save it uncompressed with `numpy.savez`.",
        "CWE-409",
    ),
    entry(
        "Z_PREFIX",
        "warn",
        "bytes stand before the first member of the archive",
        """Something precedes the archive, such as a program that unpacks itself, or junk from a transfer.
        Zip readers that search from the end accept it. numpy looks at the first bytes and does not
        recognise the file.""",
        _SAVE_AGAIN,
    ),
    entry(
        "Z_TRAILING",
        "warn",
        "bytes of the archive belong to no record",
        """The archive is complete, and something stands behind it or between its records. numpy ignores the
        rest.""",
        "Compare the size with the publisher's. " + _SAVE_AGAIN,
    ),
    entry(
        "Z_UNKNOWN_MEMBER",
        "note",
        "a member of the archive is no array",
        """The member's name does not end in .npy. Its bytes are not judged. Readme files and pickles are
        typical.""",
        "Nothing, if it is meant to be there. Do not unpickle it.",
    ),
    entry(
        "NPY_MAGIC",
        "fail",
        "the array does not begin with the numpy signature",
        """An .npy file or member starts with the byte 0x93 and the letters NUMPY. This one does not, so it
        is damaged or something else. numpy then takes it for a pickle and asks to be allowed to load it: do
        not allow that.""",
        _SAVE_AGAIN,
        "NEP 1: a simple file format for numpy arrays",
    ),
    entry(
        "NPY_VERSION",
        "fail",
        "the array has an unknown version of the numpy format",
        """Versions 1.0, 2.0 and 3.0 exist. Another number stands here: damage, or a format newer than this
        program.""",
        _SAVE_AGAIN,
        "numpy.lib.format",
    ),
    entry(
        "NPY_HEADER",
        "fail",
        "the array's header cannot be understood",
        """The header must be a literal with the keys descr, fortran_order and shape. A key is missing or
        unknown, a value has the wrong type, a dimension is negative, or the text is no literal. It is never
        evaluated as code.""",
        _SAVE_AGAIN,
        "numpy.lib.format",
    ),
    entry(
        "NPY_HEADER_OVERSIZE",
        "warn",
        "the array's header is larger than numpy accepts",
        """numpy refuses headers above 10,000 bytes unless it is told otherwise. Ordinary headers have about
        a hundred. Padding or a huge structured type makes them long.""",
        "Write the array again with `numpy.save`.",
        "numpy.lib.format: max_header_size",
    ),
    entry(
        "NPY_OVERFLOW",
        "fail",
        "the size that the shape asks for does not fit in 63 bits",
        """The dimensions times the size of an element exceed what can be counted. No real array is that
        large.""",
        "Treat the file as damaged or hostile. " + _SAVE_AGAIN,
    ),
    entry(
        "NPY_TRUNCATED",
        "fail",
        "the array ends before its last element",
        """Header and shape promise more bytes than are there. The download or the save stopped early, or
        the shape is wrong.""",
        "Fetch the file again and compare its size with the publisher's.",
    ),
    entry(
        "NPY_TRAILING",
        "warn",
        "bytes follow the array's last element",
        """The array is complete and something comes after it. numpy ignores the rest. Several arrays saved
        one after the other in one file look like this, and only the first is read.""",
        "Check what the rest is. Save each array in its own file or member.",
    ),
    entry(
        "NPY_STRUCTURED",
        "warn",
        "the array has named fields instead of one number per element",
        """The dtype is a record. Row norms and value checks are not defined for it, so its values were not
        judged. It is a note for text and for opaque items. Decoders are never stored like this.""",
        "Save the fields that matter as plain arrays.",
    ),
    entry(
        "NPY_OBJECT_PICKLE",
        "fail",
        "the array holds Python objects, stored as a pickle",
        """The dtype is object, so the data is a pickle, and loading it with `allow_pickle=True` can run any
        code. Unitrow does not unpickle it; its values were not judged. Saving a list of arrays of different
        lengths, or a dictionary, with `numpy.save` produces it.""",
        """Do not load it unless you trust its source. Save each array under its own name with
        `numpy.savez`.""",
        "numpy.load: allow_pickle",
    ),
)
