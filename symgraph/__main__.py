"""The command line: `python -m symgraph doctor`, `show`, `cost`, `bench`, `data`.

A command is a module with `add_arguments(subparsers)`, which sets `func`: arguments -> exit status.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from symgraph import bench, doctor
from symgraph._version import __version__
from symgraph.data import commands as data
from symgraph.debug import commands as look
from symgraph.errors import SymgraphError

COMMANDS = (doctor, look, bench, data)

FAILED = 2
INTERRUPTED = 128 + 2  # what a shell reports of a program that Ctrl-C ended
CLOSED_PIPE = 128 + 13


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="python -m symgraph",
        description="Symbolic tensor graphs: what this machine offers, what a graph is, data sets.",
    )
    top.add_argument("--version", action="version", version=f"symgraph {__version__}")
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_arguments(subparsers)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status; an error of symgraph is one text, no traceback."""
    given = parser().parse_args(arguments)
    try:
        status = given.func(given)
        sys.stdout.flush()
    except SymgraphError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `... | head` has read enough. Python would complain again while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return status or 0


if __name__ == "__main__":
    sys.exit(main())
