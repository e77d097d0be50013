"""`python -m symgraph show MODULE` and `cost MODULE`: look at what a Python file builds.

In place of MODULE goes a file that `Function.save` has written: net.sgz.

MODULE is an importable name such as models.alexnet, found from the working folder too, or
MODULE:NAME for one thing in it. What is shown is a function, a graph, a value, a list of values or
a module of sg.nn; or what gives one of these when called without arguments. Without NAME the file
is asked for `graph`, then for `MODEL`, whose method `graph` is called: models/*.py have one.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from symgraph.cost import cost
from symgraph.cost.units import number_text
from symgraph.debug.export import to_dot, to_graphml
from symgraph.debug.latex import latex
from symgraph.debug.lines import graph_of
from symgraph.debug.page import draw
from symgraph.debug.show import show
from symgraph.errors import ArgumentError
from symgraph.function import Function, load
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value

NAMES = ("graph", "MODEL")
SAVED = ".sgz"  # how files of functions end

# option, its help, what writes the file
FILES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("html", "a page to click through", draw),
    ("dot", "text for Graphviz", to_dot),
    ("graphml", "GraphML, for NetworkX, Gephi and yEd", to_graphml),
)


def find(name: str) -> Any:
    """Give what a name on the command line stands for: a function, or something to show.

    Raises `ArgumentError` where there is no such module, or nothing to show in it.
    """
    if name.endswith(SAVED):
        return load(name, backend="reference")
    path, _, attribute = name.partition(":")
    module = _imported(path)
    wanted = [attribute] if attribute else [each for each in NAMES if hasattr(module, each)]
    if not wanted or not hasattr(module, wanted[0]):
        what = f"no `{attribute}`" if attribute else "neither `graph` nor `MODEL`"
        raise ArgumentError(
            f"{name}: there is {what} in {module.__file__}.",
            fix=f"write a function `graph()` that gives what to show, or name one: {path}:NAME",
        )
    return _shown(name, getattr(module, wanted[0]))


def _imported(path: str) -> ModuleType:
    if not all(part.isidentifier() for part in path.split(".")):
        raise ArgumentError(
            f"{path!r} is no name of a module.", fix="write models.alexnet, not models/alexnet.py"
        )
    if os.getcwd() not in sys.path and "" not in sys.path:  # the console script lacks it
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as problem:
        # a module that is there but needs another one is that one's problem
        if problem.name is None or not (path + ".").startswith(problem.name + "."):
            raise ArgumentError(
                f"{path}: imports {problem.name}, which is not installed.",
                fix=f"pip install {problem.name}",
            ) from None
        raise ArgumentError(
            f"{path}: there is no such module.",
            fix=f"write {path.removesuffix('.py')}, not {path}"
            if path.endswith(".py")
            else "run in the folder that holds it, or install its package",
        ) from None


def _shown(name: str, found: Any) -> Any:
    if not _is_graph(found) and hasattr(found, "graph"):
        found = found.graph
    if callable(found) and not _is_graph(found) and not hasattr(found, "example"):
        try:
            inspect.signature(found).bind()
        except (TypeError, ValueError) as problem:
            raise ArgumentError(
                f"{name}: cannot be called without arguments: {problem}.",
                fix="name something that can, or what it gives",
            ) from None
        found = found()
    graph_of(found, name)
    return found


def _is_graph(found: Any) -> bool:
    return isinstance(found, Function | Graph | Value)


def _sizes(pairs: list[str]) -> dict[str, int]:
    """Read `B=128`; raises `ArgumentError` for anything else."""
    sizes = {}
    for pair in pairs:
        size, sign, number = pair.partition("=")
        if not sign or not size or not number.isdecimal():
            raise ArgumentError(f"--size {pair}: must be a size and a number.", fix="--size B=128")
        if size in sizes:
            raise ArgumentError(f"--size {pair}: the size {size} is given twice.")
        sizes[size] = int(number)
    return sizes


def run_show(arguments: argparse.Namespace) -> int:
    """Print the graph, or write it to files."""
    found = find(arguments.module)
    if arguments.before and isinstance(found, Function):
        found = found.built
    sizes = _sizes(arguments.size)
    written = False
    for option, _, write in FILES:
        path = getattr(arguments, option)
        if path is not None:
            write(found, path, **({"sizes": sizes} if option == "html" else {}))
            print(path)
            written = True
    if arguments.latex:
        print(latex(found))
    elif not written:
        print(show(found))
    return 0


def run_cost(arguments: argparse.Namespace) -> int:
    """Print the cost as formulas, and in numbers if there are sizes."""
    sizes = _sizes(arguments.size)
    report = cost(graph_of(find(arguments.module), "cost"))
    found = report.evaluate(sizes) if sizes else None
    print(report)
    if found is not None:
        print("\nat " + ", ".join(f"{size} = {number}" for size, number in sizes.items()) + ":")
        print(f"  FLOPs    {number_text(found.flops)}")
        print(f"  read     {number_text(found.read, 'B')}")
        print(f"  written  {number_text(found.written, 'B')}")
        print(f"  memory   {number_text(found.peak, 'B')} at least")
    return 0


def add_arguments(subparsers: Any) -> None:
    """Add `show` and `cost` to the commands of the shell."""
    look = _command(
        subparsers, "show", "print or draw the graph that a Python file builds", run_show
    )
    look.add_argument("--before", action="store_true", help="the graph as built, before any pass")
    look.add_argument("--latex", action="store_true", help="print formulas instead")
    for option, about, _ in FILES:
        look.add_argument(f"--{option}", metavar="FILE", help=f"write {about}")
    _command(subparsers, "cost", "FLOPs, bytes and memory of what a Python file builds", run_cost)


def _command(
    subparsers: Any, name: str, about: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=about,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("module", metavar="MODULE[:NAME]", help="models.alexnet, or my.module:net")
    parser.add_argument(
        "--size", metavar="B=128", action="append", default=[],
        help="the number of a size, for bytes and FLOPs; once for each size",
    )  # fmt: skip
    parser.set_defaults(func=run)
    return parser
