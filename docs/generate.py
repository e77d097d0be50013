"""Write the reference: public names of each module, tables of operations and of rules.

python docs/generate.py [OUT]       writes Markdown to OUT (default docs/reference)
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from coveragetable import coverage
from docstrings import escaped, markdown, signature
from optable import operations
from ruletable import rules

from symgraph.graph.declare import Declaration
from symgraph.graph.dsl import TensorMethods
from symgraph.graph.op import Op

#       module -> how a user writes it
MODULES = {
    "symgraph": "sg",
    "symgraph.nn": "sg.nn",
    "symgraph.nn.init": "sg.nn.init",
    "symgraph.optim": "sg.optim",
    "symgraph.data": "sg.data",
    "symgraph.compression": "sg.compression",
    "symgraph.dims": "sg.dims",
    "symgraph.ops.sampling": "sg.random",
    "symgraph.array_api": "sg.array_api",
    "symgraph.array_api.linalg": "sg.array_api.linalg",
    "symgraph.array_api.fft": "sg.array_api.fft",
    "symgraph.io": "sg.io",
    "symgraph.debug": "sg.debug",
    "symgraph.errors": "sg.errors",
}


def page(name: str) -> str:
    """Write the page of one module."""
    module, shown = importlib.import_module(name), MODULES[name]
    names = public(module)
    declared = [each for each in names if isinstance(getattr(module, each), Declaration)]
    parts = [f"# {shown}", markdown(module.__doc__)]
    if declared:
        parts += ["## Declarations of inputs", declarations(module, declared)]
    parts += [entry(each, getattr(module, each), shown) for each in names if each not in declared]
    return "\n\n".join(part for part in parts if part) + "\n"


def public(module: ModuleType) -> list[str]:
    """List the public names of a module that are no modules themselves."""
    listed = getattr(module, "__all__", None)
    if listed is None:
        own = [
            name
            for name, held in vars(module).items()
            if getattr(held, "__module__", "") == module.__name__
        ]
        listed = [name for name in own if inspect.isroutine(vars(module)[name])] + [
            name
            for name in own
            if inspect.isclass(vars(module)[name]) and not issubclass(vars(module)[name], Op)
        ]
    kept = [name for name in listed if not inspect.ismodule(getattr(module, name))]
    return sorted((name for name in kept if not name.startswith("_")), key=str.lower)


def entry(name: str, held: Any, shown: str) -> str:
    """Write one name: heading, signature, text, and the members of a class."""
    head = f"## {escaped(name)}"
    if inspect.isclass(held):
        return "\n\n".join([head, code(_class(held)), markdown(held.__doc__), *members(held)])
    if callable(held) and hasattr(held, "__name__"):
        return "\n\n".join([head, code(f"{shown}.{name}{signature(held)}"), markdown(held.__doc__)])
    if type(held).__module__.startswith("symgraph."):
        about = f"An object of the class `{type(held).__name__}`."
        return "\n\n".join([head, about, markdown(type(held).__doc__)])
    return f"{head}\n\n{code(str(held))}"


def _class(kind: type) -> str:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    line = f"class {kind.__name__}({bases})" if bases else f"class {kind.__name__}"
    if "__init__" not in vars(kind) or issubclass(kind, Exception):
        return line
    own = kind.__init__  # type: ignore[misc]
    return f"{line}\n{kind.__name__}{signature(own, method=True).removesuffix(' -> None')}"


def members(kind: type) -> Iterator[str]:
    """Write the methods and properties of a class that have a docstring of their own."""
    # the methods of values stand in a base that is not public
    own = {**vars(kind), **(vars(TensorMethods) if TensorMethods in kind.__bases__ else {})}
    for name, held in own.items():
        plain = held.fget if isinstance(held, property) else getattr(held, "__func__", held)
        if name.startswith("_") or not inspect.isfunction(plain) or not plain.__doc__:
            continue
        bound = not isinstance(held, staticmethod)
        call = name if isinstance(held, property) else name + signature(plain, method=bound)
        head = f"### {escaped(kind.__name__)}.{escaped(name)}"
        yield "\n\n".join([head, code(call), markdown(plain.__doc__)])


def declarations(module: ModuleType, names: list[str]) -> str:
    """Write the table of declarations: `imatrix` and its relatives."""
    rows = ["| call | axes | dtype |", "|---|---|---|"]
    for name in names:
        held = getattr(module, name)
        kind = held.dtype or "`config.float_dtype`"
        rows.append(f"| `{name}(name=None, dtype=None)` | {held.ndim} | {kind} |")
    return "\n".join(rows)


def code(text: str) -> str:
    """Fence Python."""
    return f"```python\n{text}\n```"


def everything() -> dict[str, str]:
    """Give the name and text of every generated page."""
    made = {f"{shown}.md": page(name) for name, shown in MODULES.items()}
    made["operations.md"] = operations()
    made["coverage.md"] = coverage()
    made["rules.md"] = rules()
    listed = "\n".join(name.removesuffix(".md") for name in made)
    made["index.md"] = (
        "# Reference\n\nGenerated from the code: signatures, docstrings and registries.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    )
    return made


def main() -> int:
    """Write all pages, and remove those that are no longer made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reference = Path(__file__).parent / "reference"
    parser.add_argument(
        "out", nargs="?", type=Path, default=reference, help="(default: %(default)s)"
    )
    out: Path = parser.parse_args().out
    made = everything()
    out.mkdir(exist_ok=True)
    for old in out.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (out / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
