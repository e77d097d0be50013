"""Kernels together as the text of one module."""

from __future__ import annotations

from collections.abc import Iterable

from symgraph.lower.llvm.kernel import Kernel

NOWHERE = "@nowhere = internal constant [1024 x i8] zeroinitializer, align 64"
ALWAYS = 'nounwind "prefer-vector-width"="512" "no-trapping-math"="true"'
ATTRIBUTES = f"attributes #0 = {{ {ALWAYS} }}", f"attributes #1 = {{ noinline cold {ALWAYS} }}"
METADATA = "!0 = !{}", "!1 = !{i32 1}", '!2 = !{!"branch_weights", i32 1, i32 4096}'


def module(kernels: Iterable[Kernel], names: Iterable[str]) -> str:
    """Give the text of a module in which kernels have names of their own."""
    listed = list(kernels)
    declared = sorted(set().union(*(kernel.declarations for kernel in listed)))
    texts = [
        kernel.text.replace(f"@{kernel.name}(", f"@{name}(", 1)
        for kernel, name in zip(listed, names, strict=True)
    ]
    return "\n".join([NOWHERE, *ATTRIBUTES, *METADATA, *declared, *texts])
