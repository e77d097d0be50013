"""Build the documentation: generate the reference, then run Sphinx; a warning is an error.

python docs/build.py [OUT]      writes HTML to OUT (default docs/_build/html)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent


def main() -> int:
    """Generate and build; give the exit status."""
    out = sys.argv[1] if len(sys.argv) > 1 else str(DOCS / "_build" / "html")
    generated = subprocess.call([sys.executable, str(DOCS / "generate.py")])
    if generated:
        return generated
    cache = str(DOCS / "_build" / "doctrees")
    options = ["-W", "--keep-going", "-q", "-b", "html", "-d", cache]
    return subprocess.call([sys.executable, "-m", "sphinx", *options, str(DOCS), out])


if __name__ == "__main__":
    sys.exit(main())
