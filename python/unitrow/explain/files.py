"""`FS_`: the file itself, before its format is looked at."""

from __future__ import annotations

from unitrow.explain.entry import entry

ENTRIES = (
    entry(
        "FS_EMPTY",
        "fail",
        "the file has no bytes",
        """The file exists and its size is zero. It holds no header and no tensor.

        A download or a save that stopped before its first byte leaves such a file. So does a full disk, or
        a script that creates its outputs before it fills them.""",
        "Fetch or save the file again. Look at free space and quota first.",
        "safetensors format: a file has at least 8 bytes",
    ),
    entry(
        "FS_NOT_REGULAR",
        "unreadable",
        "the path is a folder, pipe, socket or device, not a regular file",
        """The name is a checkpoint's, but what stands there has no fixed contents that could be audited. A
        pipe without a writer blocks its reader for ever: opening one with safetensors 0.8.0 does not
        return. Such a path is therefore reported and not read.""",
        """Name the regular file that holds the weights. If a folder carries a file's name, look inside it,
        then rename one of the two.""",
    ),
    entry(
        "FS_BROKEN_LINK",
        "unreadable",
        "the symbolic link leads to nothing, or in a circle",
        """The link is there and its target is not. In a Hugging Face cache the files of a snapshot are
        links into a folder of blobs, so a blob that was deleted, or a cache copied without its blobs,
        leaves links like this. Copying a tree to another machine can also break links that leave the
        tree.""",
        """Restore the target, or download the file again. When you copy a cache, copy the whole repository
        folder, or copy with links followed (`cp -L`, `rsync -L`).""",
    ),
    entry(
        "FS_CHANGED",
        "unreadable",
        "the file changed while it was read",
        """Size, times or inode after the read differ from those before it. What was measured may be a
        mixture of the old and the new bytes, so nothing is concluded from it.

        The usual cause is a training run that still saves to this path, or a download in progress. A loader
        that maps the file gets no such warning: it can be killed when the file shrinks under it, or return
        a mixture when the file is rewritten in place.""",
        """Wait for the writer to finish and audit again. Make the writer save to a temporary name in the
        same folder and rename it: a rename is never seen half done.""",
    ),
    entry(
        "FS_IO",
        "unreadable",
        "the system reported an error while reading",
        """The operating system refused or failed a read; the message carries its words. This is a fault of
        the disk, the network file system, the path or a limit of the process, and says nothing about the
        file's format. Bytes that were not read are not judged.""",
        """Try again once, since network file systems recover. If it stays, read the file with another tool
        (`cat FILE > /dev/null`), look at the system log for disk errors, and copy the file from its
        source.""",
    ),
    entry(
        "FS_PERMISSION",
        "unreadable",
        "the file or folder may not be read by this user",
        """It exists, but its mode or the mode of a folder above it denies reading. The Python binding of
        safetensors 0.8.0 words the same error as "No such file or directory", which sends people looking
        for a missing file. Files written by safetensors 0.8 have mode 0600, so a file that another user
        saved is a common case.""",
        "Ask the owner for read permission (`chmod a+r FILE`), or run the audit as a user that has it.",
        "safetensors#782",
    ),
    entry(
        "FS_LFS_POINTER",
        "fail",
        "a Git LFS pointer stands where the weights should be",
        """The file is a short text that names the real file by its SHA-256 and size. Git writes it when a
        repository is cloned without Git LFS, or with smudging switched off. No weights are here.

        A safetensors loader takes the first eight characters for a header length and answers "header too
        large".""",
        """Run `git lfs pull` in the clone, or download the file from the hub. If the object is already in
        `.git/lfs/objects`, `git lfs checkout` is enough.""",
        "https://git-lfs.github.com/spec/v1",
    ),
    entry(
        "FS_TEXT",
        "fail",
        "the file is a text: a web page, or an error answer in JSON or XML",
        """A server's answer was saved under the checkpoint's name. Login pages, "not found" pages and
        messages such as `{"error": "Unauthorized"}` are typical. They appear when a download script does
        not look at the HTTP status, when a token is missing, or when the link is to a page about the
        file.""",
        """Open the file in an editor: it usually says what went wrong. Download it again with a client that
        checks the status (`hf download`, `curl --fail --location`), with a token if the repository is
        gated.""",
    ),
    entry(
        "FS_WRONG_FORMAT",
        "fail",
        "the bytes are another format than the name says",
        """The first bytes are those of another container; the message names it. A compressed copy, a zip
        archive, a GGUF or HDF5 file under the name of a safetensors file are typical. A safetensors loader
        answers such a file with "header too large" or "invalid header length" and never says what it
        is.""",
        """Give the file the name of its real format, or unpack or convert it, or fetch the file that was
        meant. Then audit again: nothing inside was checked under this name.""",
    ),
    entry(
        "FS_PARTIAL_DOWNLOAD",
        "fail",
        "a download was not finished",
        """The name or a file beside it belongs to a download in progress: .incomplete, .part, .crdownload,
        .aria2, .!qB, or .tmp and six characters. With only the partial file there, this is a fail. With a
        control file beside a file that is itself whole, it is a warn: the downloader may not have written
        all of it yet, whatever its size says. Some downloaders reserve the full size in advance.

        A killed save leaves .tmp files of the same kind: safetensors writes to a temporary name and renames
        at the end.""",
        """Let the download finish or start it again. When nothing is running and the file's checksum is
        right, delete the left-over control or temporary file.""",
    ),
    entry(
        "FS_SPARSE",
        "note",
        "the file has holes: ranges that the file system does not store",
        """Nothing was stored for some ranges of the file; they read as zeros. Alone this is a note: some
        file systems and copying tools store real zeros this way. It is a fail together with V_ALL_ZERO or
        V_ZERO_PAGES, when the ranges without data are weights.

        A download or a save that reserved the full size and was then killed leaves this. The size is right
        and the header is valid, so a check of structure alone passes.""",
        """Compare the file's SHA-256 with the publisher's, and fetch it again if they differ. A copy made
        with `cp --sparse=always` is harmless when the digests agree.""",
    ),
    entry(
        "FS_POLYGLOT",
        "fail",
        "the file is also a valid file of another format",
        """A second format, such as a zip archive, ends where this file ends. Two programs that open the
        file can then see different contents, which is a known way to bring something past a scanner. It is
        a fail when the second format is appended behind the data, and a warn when it lies inside a tensor
        at the end of the file, because such bytes obey the safetensors rules.""",
        """Do not open the file with other tools. Ask the publisher what the extra bytes are. If you need
        the tensors, load them with a safetensors reader and save them to a new file.""",
    ),
    entry(
        "FS_UNSUPPORTED",
        "unreadable",
        "a checkpoint container that this version cannot read",
        """The file is a kind of checkpoint, for example a torch pickle (.pt, .pth, .bin, .ckpt) or a GGUF
        file, and this version has no reader for it. Nothing inside was checked. It is reported, since a
        file that was passed over must not look like a clean one.

        A pickle can run code when it is loaded. Unitrow never unpickles.""",
        """Convert it to safetensors where loading it is acceptable. For a torch file: load it with
        `torch.load(path, weights_only=True)`, call `.contiguous()` on each tensor, and write them with
        `safetensors.torch.save_file`. Some files keep the weights one level down, under a key such as
        `state_dict` or `sae`. Copy the config along, then audit the new folder.""",
    ),
)
