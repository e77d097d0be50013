"""Check the documentation: build it if it has a builder, and run its tests if it has any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def commands() -> list[list[str]]:
    """List what there is to run."""
    found = []
    if (DOCS / "build.py").is_file():
        found.append([sys.executable, "docs/build.py"])
    if any(DOCS.rglob("test_*.py")):
        found.append([sys.executable, "-m", "pytest", "docs", *sys.argv[1:]])
    return found


def main() -> int:
    """Run all, and stop at the first that fails."""
    for command in commands():
        print("$", *command[1:], flush=True)
        status = subprocess.call(command, cwd=ROOT)
        if status:
            return status
    if not commands():
        print("docs/ has neither build.py nor tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
