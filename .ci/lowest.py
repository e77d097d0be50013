"""Install the oldest versions of the core that setup.py allows, read from setup.py itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

SETUP = Path(__file__).parent.parent / "setup.py"


def pins() -> list[str]:
    """Turn CORE = ["numpy>=2.0", ...] into ["numpy==2.0", ...]."""
    for statement in ast.parse(SETUP.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "CORE":
            names: list[str] = ast.literal_eval(statement.value)
            return [name.replace(">=", "==") for name in names]
    raise SystemExit("setup.py has no list CORE")


if __name__ == "__main__":
    print("oldest core:", *pins())
    sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "-q", *pins()]))
