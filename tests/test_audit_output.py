"""Reports are whole or absent, and the old one stays until the new one is there."""

import os
import stat
import subprocess
import sys

import pytest

from checkpoints import unit_rows, write_saelens

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
from unitrow.cli import main
main()
"""


@pytest.fixture
def audited(tmp_path):
    return write_saelens(tmp_path / "sae", unit_rows(256, 48))


def write(audited, target, *, code="from unitrow.cli import main; main()", mask=0o022):
    return subprocess.run(
        [sys.executable, "-c", code, "audit", str(audited), "--format", "json", "-o", str(target)],
        capture_output=True,
        text=True,
        check=False,
        umask=mask,
    )


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_report_has_the_permissions_that_the_user_gives_new_files(audited, tmp_path, mask):
    target = tmp_path / "report.json"
    assert write(audited, target, mask=mask).returncode == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask


def refused(audited, target, code, reason):
    """A report that does not fit is refused in words; what was there stays, and nothing else is left."""
    before = {path.name: path.read_bytes() for path in target.parent.iterdir() if path.is_file()}
    done = write(audited, target, code=code)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot write {target}: {reason}")
    assert {path.name: path.read_bytes() for path in target.parent.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("old", [None, b"old report"])
def test_a_file_size_limit_leaves_the_old_report(audited, tmp_path, old):
    target = tmp_path / "out" / "report.json"
    target.parent.mkdir()
    if old is not None:
        target.write_bytes(old)
    refused(audited, target, LIMITED, "File too large")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_full_disk_leaves_the_old_report(audited, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount")
    try:
        (folder / "filler").write_bytes(bytes(4096))
        (folder / "report.json").write_bytes(b"old report")
        refused(
            audited, folder / "report.json", "from unitrow.cli import main; main()", "No space left on device"
        )
    finally:
        subprocess.run(["umount", str(folder)], check=True)
