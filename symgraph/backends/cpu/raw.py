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
from symgraph.graph.rawkernel import kernel_of

LANGUAGE = "llvm"


def prepare(op: Op, arrays: Sequence[Array], results: Sequence[Array], threads: int) -> Prepared:
    """Give an operation with a kernel of its own, at concrete sizes, as one primitive."""
    made = Routine(op, arrays, results, threads or usable_cores())
    return Prepared([Use(made, {role: number for number, role in enumerate(made.arguments)})])


class Routine:
    """One operation at concrete sizes."""

    is_reference = False
    implementation = "LLVM by hand"

    def __init__(
        self, op: Op, arrays: Sequence[Array], results: Sequence[Array], threads: int
    ) -> None:
        self.name = op.name
        self.arguments: Mapping[str, Array] = {
            **{f"x{number}": one for number, one in enumerate(arrays)},
            **{f"y{number}": one for number, one in enumerate(results)},
        }
        found = kernel_of(op, LANGUAGE, number_types(arrays, results))
        if found is None:
            raise LoweringError(f"{op.name}: it has no kernel for LLVM at these sizes.")
        tasks, sizes = int(found.tasks), [int(size) for size in found.sizes]
        self.words = np.array([tasks, *sizes], np.int64)
        self.threads = max(1, min(threads, tasks // found.grain))
        self.text = found.source, found.name, len(self.arguments), len(sizes)

    def bind(self, buffers: Mapping[str, tuple[Any, int]]) -> Call:
        """Bind operands and results to addresses, which may be 0 until `Call.rebind` gives them."""
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
