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


def numbered(kernels: Sequence[Kernel]) -> tuple[str, list[str]]:
    """Give a module of kernels called kernel0, kernel1 and so on, then `latch`; and the names."""
    names = [f"kernel{place}" for place in range(len(kernels))]
    return module(kernels, names) + LATCHED, [*names, LATCH]


def module(kernels: Iterable[Kernel], names: Iterable[str]) -> str:
    """Give the source of a module in which kernels have names of their own."""
    texts = [
        kernel.text.replace(f" {kernel.name}(", f" {name}(", 1)
        for kernel, name in zip(kernels, names, strict=True)
    ]
    return "\n".join([prelude(), *texts])
