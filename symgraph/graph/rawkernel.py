"""Kernels that are written by hand, as text in LLVM IR or CUDA C, for operations that have them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from symgraph.dims import Size
from symgraph.errors import LoweringError
from symgraph.frozen import frozen
from symgraph.graph.types import Type

if TYPE_CHECKING:
    from symgraph.graph.node import Value

LANGUAGES = ("llvm", "cuda")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@frozen
class Launch:
    """One call of a function of a kernel's text, see `RawKernel`."""

    name: str
    tasks: Size
    sizes: tuple[Size, ...] = ()
    grain: int = 256


@frozen
class RawKernel:
    """A function that computes an operation, one task after another or all at once.

    Arrays lie in row-major order; the results are written over whatever was there. `name` is

    * in LLVM IR `void @name(i64 first, i64 until, ptr x0, ..., ptr y0, ..., i64 size0, ...)`, which
      does the tasks from `first` on below `until`; threads that have `grain` tasks each share them;
    * in CUDA C `extern "C" __global__ void name(long long tasks, const float* x0, ..., float* y0,
      ..., long long size0, ...)`, which `tasks` threads or a few more run, in blocks of `grain`.

    What has several stages names them in `then`: other functions of the same text, each called when
    the one before has done all its tasks. All are given the same arrays and sizes of their own.
    `scratch` has the bytes of memory to work in: its addresses come after the results, 64-byte
    aligned, with whatever was there. Where it is not `wanted`, `expand` is better at these sizes.
    """

    source: str
    name: str
    tasks: Size
    sizes: tuple[Size, ...] = ()
    grain: int = 256
    then: tuple[Launch, ...] = ()
    scratch: tuple[Size, ...] = ()
    wanted: bool = True

    @property
    def launches(self) -> tuple[Launch, ...]:
        """All calls, in order."""
        return (Launch(self.name, self.tasks, self.sizes, self.grain), *self.then)


def kernel_of(op: Any, language: str, types: Sequence[Type]) -> RawKernel | None:
    """Give an operation's own kernel in a language, for its operands' types and its result's.

    Raises `LoweringError` where it is none that can be called.
    """
    found = op.raw_kernel(language, *types)
    if found is None:
        return None
    if not isinstance(found, RawKernel):
        problem = f"gives {type(found).__name__}, not a RawKernel or None"
    else:
        problem = next(filter(None, map(_problem, found.launches)), "")
    if problem:
        raise LoweringError(f"{op.name}: its kernel for {language} {problem}.")
    return found  # type: ignore[no-any-return]


def _problem(one: Any) -> str:
    """Say why a launch cannot be called, or nothing."""
    if not isinstance(one, Launch):
        return f"gives {type(one).__name__} in `then`, not a Launch"
    if not _NAME.fullmatch(one.name):
        return f"has a name that is none of a function: {one.name!r:.40}"
    if not isinstance(one.grain, int) or not 1 <= one.grain <= 1024:
        return f"has a grain of {one.grain!r:.40}, which must lie in 1 .. 1024"
    return ""


def has_kernel(value: Value, language: str) -> bool:
    """Tell whether an operation brings a kernel of its own that is wanted at these sizes."""
    types = (*(one.type for one in value.inputs), value.type)
    found = kernel_of(value.op, language, types)
    return found is not None and found.wanted
