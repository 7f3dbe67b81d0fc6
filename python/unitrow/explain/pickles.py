"""`PT_`: torch's own checkpoint format, which is recognised and not read."""

from __future__ import annotations

from unitrow.explain.entry import entry

ENTRIES = (
    entry(
        "PT_PICKLE",
        "note",
        "the file is a torch archive, whose contents are described by a pickle",
        """A pickle is a program: loading it can run any code. This one was recognised and not executed. The
        finding says something about the format and nothing about this file.""",
        """Load it only with `torch.load(path, weights_only=True)`, or convert it to safetensors. See
        FS_UNSUPPORTED for how.""",
        "torch.load: weights_only",
    ),
    entry(
        "PT_LEGACY",
        "fail",
        "a bare pickle or a tar file stands in place of a torch archive",
        """torch has written zip archives since version 1.6. This file is in a form from before that, or it
        is a pickle that some other program wrote. A scanner that expects an archive may skip it. It was not
        executed.""",
        """If you trust its source, load it with `torch.load(path, weights_only=True)` and save the tensors
        as safetensors. Otherwise do not load it.""",
        "torch.load: weights_only",
    ),
)
