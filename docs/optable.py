"""The table of operations, from the registry: formula, dtypes, and what the gradient rule gives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from docstrings import escaped, first_sentence

from symgraph.backends.cpu.blas import operations as blas
from symgraph.backends.cpu.calls import TABLE
from symgraph.backends.cpu.onednn import operations as onednn
from symgraph.backends.cpu.sequential import operations as sequential
from symgraph.backends.cuda.calls import CONVOLUTIONS, PRODUCTS
from symgraph.errors import GradError
from symgraph.graph.dtypes import is_float, is_integer
from symgraph.graph.elementwise import KINDS, Elementwise
from symgraph.graph.leaves import items, tensor
from symgraph.graph.node import Value
from symgraph.graph.op import ZERO, Op
from symgraph.graph.registry import COMPOSITES, FUNCTIONS, OPS, F
from symgraph.graph.samples import Sample
from symgraph.graph.types import TupleType
from symgraph.graph.walk import topological

INTRODUCTION = """\
The nodes that a graph is made of, from the registry. *Dtypes* are the kinds that the operation's
samples use, which are those it is tested with; floats are tested as float16, bfloat16, float32 and
float64. *Gradient* tells what its rule gives for its float operands: `0` is a gradient that is zero
almost everywhere, a dash is none. *CPU* and *CUDA* tell what computes it there: a library, where it
is installed and takes the operands, else a generated kernel; NumPy on the host, where no loops
express it. What each is tested against stands in [a table of its own](coverage.md).
"""
GRAPHS, INSIDE = ("loop", "branch"), "kernels of the graph inside"
LIBRARIES = {onednn: "oneDNN", blas: "BLAS", sequential: "native loops"}


def operations() -> str:
    """Write the table of all operations and of the functions made of them."""
    rows = [
        f"| `{name}` | {formula(kind)} | {dtypes(kind)} | {gradient(kind)} |"
        f" {by_cpu(kind)} | {by_cuda(kind)} |"
        for name, kind in sorted(OPS.items())
    ]
    made = [
        f"| `{name}` | {escaped(first_sentence(FUNCTIONS[name].__doc__))} |"
        for name in sorted(COMPOSITES)
        if name not in OPS
    ]
    parts = [
        "# Operations",
        INTRODUCTION,
        table(("operation", "formula or meaning", "dtypes", "gradient", "CPU", "CUDA"), rows),
        "## Functions made of operations",
        table(("function", "what it does"), made),
    ]
    return "\n\n".join(parts) + "\n"


def table(header: Iterable[str], rows: Iterable[str]) -> str:
    """Write a table in Markdown."""
    names = list(header)
    return "\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *rows])


def formula(kind: type[Op]) -> str:
    """Give an operation's formula, or the first sentence about it."""
    template = getattr(kind, "latex", None)
    if not issubclass(kind, Elementwise) or not template:
        return escaped(first_sentence(kind.__doc__))
    operands = ("c", "x", "y") if kind.__name__ == "Where" else ("x", "y", "z")
    # a bar would end the cell of the table
    return "$" + re.sub(r"\|", r"\\vert ", template.format(*operands)) + "$"


def dtypes(kind: type[Op]) -> str:
    """Tell with which kinds of dtypes an operation's samples run."""
    if issubclass(kind, Elementwise):
        return KINDS[kind.takes]
    built = [node for sample in kind.samples for node in nodes(kind, sample)]
    first = {node.inputs[0].dtype for node in built if node.inputs}
    kinds = {"floats" if is_float(d) else "integers" if is_integer(d) else "bools" for d in first}
    return ", ".join(sorted(kinds)) or ("no operands" if kind.leaf or built else "any dtype")


def gradient(kind: type[Op]) -> str:
    """Tell what an operation's gradient rule gives, by asking it."""
    found = {
        answer
        for sample in kind.samples
        for node in nodes(kind, sample)
        for answer in cotangents(node)
    }
    return "yes" if "yes" in found else "0" if found else "–"


def by_cpu(kind: type[Op]) -> str:
    """Tell what computes an operation on the CPU."""
    libraries = [LIBRARIES[one] for one in TABLE.get(kind.name, ())]
    return _by(kind, libraries)


def by_cuda(kind: type[Op]) -> str:
    """Tell what computes an operation on a CUDA device."""
    libraries = ["cuDNN"] if kind.name in CONVOLUTIONS else []
    return _by(kind, libraries + (["cuBLASLt"] if kind.name in PRODUCTS else []))


def _by(kind: type[Op], libraries: list[str]) -> str:
    if kind.leaf:
        return "–"
    own = "NumPy on the host" if kind.host else INSIDE if kind.name in GRAPHS else "kernel"
    return ", ".join([*libraries, own])


def nodes(kind: type[Op], sample: Sample) -> list[Value]:
    """Build a sample at its own sizes and list the nodes of the operation in it."""
    inputs = []
    for number, each in enumerate(sample.args):
        shape = [sample.sizes[size] if isinstance(size, str) else size for size in each.shape]
        inputs.append(tensor(f"x{number}", shape, each.dtype))
    made = sample.call(*inputs)
    outputs = [made] if isinstance(made, Value) else list(made)
    return [node for node in topological(outputs) if isinstance(node.op, kind)]


def cotangents(node: Value) -> Iterator[str]:
    """Give "yes" or "0" for each float operand that the gradient rule reaches."""
    several = isinstance(node.type, TupleType)
    results = items(node)
    given = [
        tensor("g", result.shape, result.dtype) if is_float(result.dtype) else None
        for result in results
    ]
    if all(each is None for each in given):
        return
    y, g = (results, tuple(given)) if several else (node, given[0])
    try:
        rules = node.op.vjp(F, g, y, *node.inputs)
        pulled = [rule() if callable(rule) else rule for rule in rules]
    except GradError:
        return
    for operand, cotangent in zip(node.inputs, pulled):
        if is_float(operand.dtype) and cotangent is not None:
            yield "0" if cotangent is ZERO else "yes"
