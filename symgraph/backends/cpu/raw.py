"""Kernels by hand in LLVM IR: compiled as they are, with a wrapper that shares their tasks."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.backends.arrays import Array, number_types
from symgraph.backends.cpu.compiler import Library, compile_text
from symgraph.backends.cpu.driver import driver
from symgraph.backends.cpu.interface import Prepared, Use
from symgraph.backends.cpu.sequential.text import NAME, module, worker
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
        return Call(self, [buffers[role][1] for role in self.arguments])


class Call:
    """A kernel at addresses; the record is the words of a function, see `interface.Call`."""

    def __init__(self, routine: Routine, addresses: Sequence[int]) -> None:
        self._roles, self._words = list(routine.arguments), routine.words
        self._library = _compiled(routine.name, *routine.text)
        self._addresses = np.array(addresses, np.int64)
        self.record: npt.NDArray[np.int64] = np.array(
            [
                self._library.addresses[NAME],
                self._words.ctypes.data,
                0,
                routine.threads,
                self._addresses.ctypes.data,
            ],
            np.int64,
        )

    def rebind(self, role: str, address: int) -> None:
        """Move an array to another address."""
        self._addresses[self._roles.index(role)] = address


@functools.lru_cache(256)
def _compiled(op: str, source: str, name: str, arrays: int, sizes: int) -> Library:
    """Give native code: the text, and what calls it for a range of its tasks."""
    code = worker()
    given = [f"ptr {code.load('ptr', '%addresses', str(k))}" for k in range(arrays)]
    given += [f"i64 {code.load('i64', '%words', str(1 + k))}" for k in range(sizes)]
    code.do(f"call void @{name}({', '.join(['i64 %low', 'i64 %high', *given])})")
    pool = driver().pool
    places = {
        "parallel": pool("GOMP_parallel"),
        "number": pool("omp_get_thread_num"),
        "count": pool("omp_get_num_threads"),
    }
    try:
        return Library(compile_text(source + "\n" + module(code, places)), [NAME])
    except LoweringError as problem:
        raise LoweringError(
            f"{op}: LLVM refuses its kernel `{name}`.",
            details=[str(problem)],
            fix="the text must define it as RawKernel says, for as many arrays and sizes",
        ) from problem
