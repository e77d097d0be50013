"""Kernels by hand in LLVM IR: compiled as they are, with a wrapper that shares their tasks."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.backends.arrays import Array, number_types
from symgraph.backends.cpu.compiler import Library
from symgraph.backends.cpu.interface import Prepared, Use
from symgraph.backends.cpu.sequential.calls import Call, compiled
from symgraph.backends.cpu.sequential.text import worker
from symgraph.config import usable_cores
from symgraph.errors import LoweringError
from symgraph.graph.op import Op
from symgraph.graph.rawkernel import Launch, kernel_of

LANGUAGE = "llvm"


def prepare(op: Op, arrays: Sequence[Array], results: Sequence[Array], threads: int) -> Prepared:
    """Give an operation with a kernel of its own, at concrete sizes, a primitive for each call."""
    found = kernel_of(op, LANGUAGE, number_types(arrays, results))
    if found is None:
        raise LoweringError(f"{op.name}: it has no kernel for LLVM at these sizes.")
    scratch = [int(size) for size in found.scratch]
    arguments = {
        **{f"x{number}": one for number, one in enumerate(arrays)},
        **{f"y{number}": one for number, one in enumerate(results)},
        **{f"s{number}": Array((size,), "uint8", (1,)) for number, size in enumerate(scratch)},
    }
    roles = {role: number for number, role in enumerate(arguments)}
    count = threads or usable_cores()
    made = (Routine(op.name, found.source, one, arguments, count) for one in found.launches)
    return Prepared([Use(one, roles) for one in made], scratch)


class Routine:
    """One call of a kernel at concrete sizes."""

    is_reference = False
    implementation = "LLVM by hand"

    def __init__(
        self, name: str, source: str, one: Launch, arguments: Mapping[str, Array], threads: int
    ) -> None:
        self.name, self.arguments = name, arguments
        tasks, sizes = int(one.tasks), [int(size) for size in one.sizes]
        self.words = np.array([tasks, *sizes], np.int64)
        self.threads = max(1, min(threads, tasks // one.grain))
        self.text = source, one.name, len(arguments), len(sizes)

    def bind(self, buffers: Mapping[str, tuple[Any, int]]) -> Call:
        """Bind arrays to addresses, which may be 0 until `Call.rebind` gives them."""
        library = _compiled(self.name, *self.text)
        addresses = [buffers[role][1] for role in self.arguments]
        return Call(library, self.words, self.threads, list(self.arguments), addresses)


@functools.lru_cache(256)
def _compiled(op: str, source: str, name: str, arrays: int, sizes: int) -> Library:
    """Give native code: the text, and what calls it for a range of its tasks."""
    code = worker()
    given = [f"ptr {code.load('ptr', '%addresses', str(k))}" for k in range(arrays)]
    given += [f"i64 {code.load('i64', '%words', str(1 + k))}" for k in range(sizes)]
    code.do(f"call void @{name}({', '.join(['i64 %low', 'i64 %high', *given])})")
    try:
        return compiled(code, source + "\n")
    except LoweringError as problem:
        raise LoweringError(
            f"{op}: LLVM refuses its kernel `{name}`.",
            details=[str(problem)],
            fix="the text must define it as RawKernel says, for as many arrays and sizes",
        ) from problem
