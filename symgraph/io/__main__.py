"""`python -m symgraph.io FILE`: print what a checkpoint says about itself, as JSON."""

from __future__ import annotations

import argparse
import json
import sys

from symgraph.errors import SymgraphError
from symgraph.io.checkpoint import load_checkpoint, read_checkpoint_header


def main(arguments: list[str] | None = None) -> int:
    """Print the document and the tensors of a checkpoint; 0 if it could be read, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m symgraph.io",
        description="Print the document of a checkpoint and the names and types of its tensors.",
    )
    parser.add_argument("path", help="a checkpoint, or a folder: then its latest one")
    parser.add_argument("--verify", action="store_true", help="read all of it and check the sha256")
    chosen = parser.parse_args(arguments)
    try:
        header = read_checkpoint_header(chosen.path)
        if chosen.verify:
            load_checkpoint(header.path)
    except SymgraphError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    tensors = {
        name: f"{dtype}[{', '.join(map(str, shape))}]"
        for name, (shape, dtype) in header.signature.items()
    }
    document = {"path": str(header.path), **header.meta, "tensors": tensors}
    print(json.dumps(document, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
