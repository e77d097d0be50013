"""Kernels that are written by hand, as text in LLVM IR or CUDA C, for operations that have them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from symgraph.dims import Size
from symgraph.errors import LoweringError
from symgraph.graph.types import Type

if TYPE_CHECKING:
    from symgraph.graph.node import Value

LANGUAGES = ("llvm", "cuda")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class RawKernel:
    """A function that computes an operation, one task after another or all at once.

    Arrays lie in row-major order; the results are written over whatever was there. `name` is

    * in LLVM IR `void @name(i64 first, i64 until, ptr x0, ..., ptr y0, ..., i64 size0, ...)`, which
      does the tasks from `first` on below `until`; threads that have `grain` tasks each share them;
    * in CUDA C `extern "C" __global__ void name(long long tasks, const float* x0, ..., float* y0,
      ..., long long size0, ...)`, which `tasks` threads or a few more run, in blocks of `grain`.
    """

    source: str
    name: str
    tasks: Size
    sizes: tuple[Size, ...] = ()
    grain: int = 256


def kernel_of(op: Any, language: str, types: Sequence[Type]) -> RawKernel | None:
    """Give an operation's own kernel in a language, for its operands' types and its result's.

    Raises `LoweringError` where it is none that can be called.
    """
    found = op.raw_kernel(language, *types)
    if found is None:
        return None
    if not isinstance(found, RawKernel):
        problem = f"gives {type(found).__name__}, not a RawKernel or None"
    elif not _NAME.fullmatch(found.name):
        problem = f"has a name that is none of a function: {found.name!r:.40}"
    elif not isinstance(found.grain, int) or not 1 <= found.grain <= 1024:
        problem = f"has a grain of {found.grain!r:.40}, which must lie in 1 .. 1024"
    else:
        return found
    raise LoweringError(f"{op.name}: its kernel for {language} {problem}.")


def has_kernel(value: Value, language: str) -> bool:
    """Tell whether an operation brings a kernel of its own."""
    types = (*(one.type for one in value.inputs), value.type)
    return kernel_of(value.op, language, types) is not None
