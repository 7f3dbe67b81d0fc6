"""Folders that one process at a time may write to."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from typing import TYPE_CHECKING

from unitrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


LOCK = ".lock"
"""The file that is locked."""


@contextlib.contextmanager
def alone_in(folder: str, what: str) -> Iterator[None]:
    """Holds a folder, which is made if there is none; a process that ends in whatever way lets go of it.

    Args:
        folder: The folder. A hidden file in it is locked, and stays.
        what: What the folder is to the caller, such as the name of an argument.

    Raises:
        ConfigError: Another process holds it, or another caller in this one.
        OSError: The folder cannot be made or written to.
    """
    os.makedirs(folder, exist_ok=True)
    file = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 200, 0).decode(errors="replace").strip()
            raise ConfigError(f"{what}: {folder} is in use by {ascii(holder)[1:-1]}") from None
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.ENOTSUP}:  # a file system without locks
                raise
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(file)
