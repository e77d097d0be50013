"""Build the documentation in a temporary folder; a warning is an error.

What its pages show is run by tests/docs, with all other tests.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Build, and say how many pages there are."""
    with tempfile.TemporaryDirectory() as out:
        status = subprocess.call([sys.executable, "docs/build.py", out], cwd=ROOT)
        if status == 0:
            print(f"{len(list(Path(out).rglob('*.html')))} pages without a warning")
    return status


if __name__ == "__main__":
    sys.exit(main())
