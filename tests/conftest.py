import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="session")
def examples():
    """The real transcoders of the repository."""
    return EXAMPLES


@pytest.fixture
def cli(tmp_path):
    """Run the command line in a fresh process, in `tmp_path`; returns the completed process."""

    def run(*arguments, check=None, **options):
        done = subprocess.run(
            [sys.executable, "-m", "unitrow", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=options.pop("cwd", tmp_path),
            timeout=120,
            check=False,
            **options,
        )
        if check is not None:
            assert done.returncode == check, done.stdout + done.stderr
        return done

    return run
