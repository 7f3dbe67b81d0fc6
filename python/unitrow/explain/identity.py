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
)
