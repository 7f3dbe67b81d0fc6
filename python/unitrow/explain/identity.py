"""`H_`: are these the bytes that someone published?"""

from __future__ import annotations

from unitrow.explain.entry import entry

ENTRIES = (
    entry(
        "H_MISMATCH",
        "fail",
        "the file does not have the digest that it should have",
        """A reference gives another digest than the bytes do. The reference is a manifest, a Git LFS
        pointer, or the file's own name in a Hugging Face cache: a blob there is named by the SHA-256 of its
        content (64 hex digits), small files by their Git SHA-1 (40).

        At least one bit differs. Damage in weights is invisible to a loader: on a real checkpoint nearly
        all single bit flips load without a word. Downloads that report success and leave wrong bytes have
        been seen.""",
        """Delete the file and download it again (`hf download REPO FILE --force-download`). If the second
        copy has the same wrong digest, suspect the reference, or the storage.""",
        "huggingface_hub#3643",
        "safetensors#220",
    ),
    entry(
        "H_MISSING",
        "warn",
        "a file that the reference lists is not there",
        """A manifest names a file that does not exist below the folder. A download of some files only gives
        this without anything being wrong, so it is a warn. It is a fail for those who ask for complete
        folders.""",
        "Fetch the file, or take it off the manifest.",
    ),
    entry(
        "H_EXTRA",
        "note",
        "a file is there that the reference does not list",
        """A manifest does not cover the file, so nothing vouches for it. Logs, local notes and left-overs
        of an earlier version are typical. It is a fail for those who ask for nothing but what is
        listed.""",
        "Remove the file or add it to the manifest.",
    ),
    entry(
        "H_PATH",
        "fail",
        "a reference names a path outside its folder",
        """A name in a manifest is absolute, climbs out of the folder with `..`, holds a NUL, or cannot be a
        file's. Nothing was opened under it. No honest tool writes such a name: whoever checks a manifest
        from elsewhere could be made to read, and report on, files of their own machine.""",
        "Do not trust the manifest. Make a new one from a copy that is known to be sound.",
    ),
    entry(
        "H_MANIFEST",
        "unreadable",
        "a part of a manifest cannot be used",
        """A line holds no digest and name, or its digest is of a kind that is not computed here, so a file
        that it may be about was not checked. It is a fail where the manifest contradicts itself: two digests
        of one kind for one file, a subject that does not follow from its parts, shards that leave bytes out.
        It is a note for repeats and for a mixture of algorithms.""",
        "Make the manifest again, with `unitrow hash` or the tool that its readers use.",
    ),
)
