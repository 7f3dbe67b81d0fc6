"""Every bench in turn, each in a process of its own, so that none inherits another's memory or threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHES = ("kernels.py", "audit.py", "reading.py", "values.py", "training.py", "gpu.py")


def main() -> int:
    here = Path(__file__).parent
    failed = 0
    for bench in BENCHES:
        print(f"== {bench}", flush=True)
        failed |= subprocess.run([sys.executable, str(here / bench)], check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
