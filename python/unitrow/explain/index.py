"""`X_`: a checkpoint in several shards and the index that names them."""

from __future__ import annotations

from unitrow.explain.entry import entry

ENTRIES = (
    entry(
        "X_BAD_INDEX",
        "fail",
        "the shard index cannot be understood",
        """The file `*.safetensors.index.json` is no JSON object, has no `weight_map`, or its map holds
        something other than names of files. Without it nobody knows which tensor lies in which shard. It is
        a warn when only a byte order mark stands before the JSON, or the map is empty.""",
        "Fetch the index again. If it is as published, write it anew from the headers of the shards.",
    ),
    entry(
        "X_DUP_KEY",
        "fail",
        "a key of the shard index stands twice",
        """Two entries for one tensor can name two shards. JSON readers mostly keep the last and say
        nothing, so what is loaded depends on the reader.""",
        "Write the index anew, with each tensor once.",
        "RFC 8259, section 4",
    ),
    entry(
        "X_PATH",
        "fail",
        "the index names a path that it must not",
        """A shard is named by an absolute path, a path with `..`, a backslash, a URL, an empty name, a NUL,
        or the index itself. A loader that joins such a name to the folder reads a file elsewhere on the
        machine. It is a warn when the name is plain and the file is a link that leaves the folder.""",
        """Treat the index as hostile unless you wrote it. A shard's name must be a plain file name in the
        same folder.""",
        "CWE-22",
    ),
    entry(
        "X_SHARD_MISSING",
        "fail",
        "a shard that the index names is not there",
        "The set is not complete. A download of some files only, or a failed one, leaves this.",
        "Download the missing shard. Its name is in the message.",
    ),
    entry(
        "X_SHARD_COUNT",
        "fail",
        "the names promise another number of shards than there are",
        """A name such as `model-00001-of-00003.safetensors` promises three files, and the set has another
        number. Either shards are missing, or files of two exports are mixed.""",
        "Fetch the whole set again into an empty folder.",
    ),
    entry(
        "X_TENSOR_MISSING",
        "fail",
        "the index promises a tensor that no shard holds",
        """The shard that the index names does not contain this tensor, and no other does. Loaders fail on
        it, or leave the parameter at its random initial values.""",
        "Fetch index and shards again from one revision. If you wrote them, save the set anew.",
    ),
    entry(
        "X_TENSOR_UNLISTED",
        "fail",
        "a shard holds a tensor that the index does not list",
        """Loaders that go by the index never load it; loaders that read whole shards do. The two give
        different models. Index and shards are probably from different exports.""",
        "Fetch index and shards again from one revision. If you wrote them, save the set anew.",
    ),
    entry(
        "X_WRONG_SHARD",
        "fail",
        "the index names another shard than the one that holds the tensor",
        """The tensor is in the set, but elsewhere. A loader that goes by the index does not find it. One
        that reads whole shards does not notice.""",
        "Write the index anew from the headers of the shards, or fetch the set again from one revision.",
    ),
    entry(
        "X_DUP_TENSOR",
        "fail",
        "two shards hold a tensor of the same name",
        """If the two differ, which one is used depends on the order in which a loader opens the shards. A
        distributed save in which each rank wrote its own copy does this.""",
        "Find out which copy is right and save the set anew with each tensor once.",
    ),
    entry(
        "X_DUP_SHARD",
        "fail",
        "two shards have the same bytes",
        """One file was stored under two names. The tensors that should be in the second are missing,
        whatever its name says. Copying mistakes and wrong rank numbers in a distributed save do this.""",
        "Fetch the second shard again, or save the set anew.",
    ),
    entry(
        "X_ORPHAN",
        "warn",
        "a shard lies beside the set and does not belong to it",
        """The file's name is outside the series that the index uses. Loaders ignore it. It is mostly a
        left-over of an earlier export with another number of shards.""",
        "Delete it when you know that it is a left-over.",
    ),
    entry(
        "X_TOTAL_SIZE",
        "warn",
        "total_size of the index is not the size of the tensors",
        """The index states how many bytes the tensors have in all, and they have another number. Loaders
        use it to plan memory, so a wrong figure does little harm by itself, but it shows that index and
        shards were not made together. It is a note when the figure is absent, or is a whole number written
        as a float.""",
        "Check that index and shards are of one revision. Correct the figure when you save the set anew.",
    ),
    entry(
        "X_AMBIGUOUS_SET",
        "warn",
        "a sharded set and a single file stand side by side and differ",
        """The folder holds an index with shards and also one `model.safetensors`, with other tensors or
        values. Each loader has its own preference, so two programs can load different models from one
        folder.""",
        "Keep the one that is meant and move the other away.",
    ),
)
