"""Kernels together as one source: options of the compiler, what they call, then each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from symgraph.graph.philox import MULTIPLIERS, ROUNDS, WEYL
from symgraph.lower.cuda.kernel import Kernel

# Products are added with one rounding where a kernel says so and nowhere else.
OPTIONS = ("-std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")


@cache
def prelude() -> str:
    """Give what kernels call."""
    numbers = [("ROUNDS", f"{ROUNDS}")]
    for kind, pair in (("FACTOR", MULTIPLIERS), ("STEP", WEYL)):
        numbers += [(f"{kind}_{k}", f"{value:#x}u") for k, value in enumerate(pair)]
    defined = "".join(f"#define PHILOX_{name} {value}\n" for name, value in numbers)
    return defined + Path(__file__).with_name("prelude.cuh").read_text(encoding="utf-8")


# Where a condition does not hold, what comes later and writes over variables does nothing.
LATCH = "latch"
LATCHED = f"""
extern "C" __global__ void {LATCH}(const unsigned char* holds, unsigned char* failed) {{
  if (!*holds) *failed = 1;
}}
"""


Width = tuple[int, bool]  # a kernel by its number, and whether its indices are wide


def numbered(kernels: Sequence[Kernel], wanted: Sequence[Width]) -> tuple[str, list[str]]:
    """Give a module of the wanted kernels, then `latch`; and the names.

    They are called kernel0, kernel1 and so on; those with wide indices kernel0_wide.
    """
    names = [f"kernel{place}{'_wide' if wide else ''}" for place, wide in wanted]
    sources = [kernels[place].source(name, wide) for (place, wide), name in zip(wanted, names)]
    return "\n".join([prelude(), *sources]) + LATCHED, [*names, LATCH]


def module(kernels: Iterable[Kernel], names: Iterable[str], wide: bool = False) -> str:
    """Give the source of a module in which kernels have names of their own."""
    sources = [kernel.source(name, wide) for kernel, name in zip(kernels, names, strict=True)]
    return "\n".join([prelude(), *sources])
