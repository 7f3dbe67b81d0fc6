"""Files of the Hugging Face hub, through its own client and its cache."""

from __future__ import annotations

import glob
import os
from importlib import import_module
from typing import Any


def fetch(repo_id: str, path: str = "", *, revision: str | None = None, **download: Any) -> str:
    """Download a file or a folder of a repository, with the configuration beside it, unless it is cached.

    Without network, `local_files_only=True` or the variable `HF_HUB_OFFLINE=1` leave it at the cache.

    Args:
        repo_id: The repository.
        path: A file or a folder inside it; empty for all of it.
        revision: Branch, tag or commit.
        **download: Further arguments of `huggingface_hub.snapshot_download`.

    Returns:
        Where it lies on this machine.

    Raises:
        ImportError: `huggingface_hub` is not installed.
        FileNotFoundError: The repository has no such file.
    """
    try:
        hub = import_module("huggingface_hub")
    except ImportError as error:
        message = "from_pretrained needs huggingface_hub: pip install 'unitrow[hub]'"
        raise ImportError(message) from error
    path = path.strip("/")
    name = glob.escape(path)
    beside = f"{glob.escape(os.path.dirname(path))}/" if os.path.dirname(path) else ""
    wanted = [name, f"{name}/*", f"{beside}cfg.json", f"{beside}config.json"] if path else None
    snapshot = hub.snapshot_download(repo_id, revision=revision, allow_patterns=wanted, **download)
    local = os.path.join(snapshot, path)
    if not os.path.exists(local):
        raise FileNotFoundError(f"{repo_id} has no {path!r}, or it is not in the cache: {local}")
    return local
