"""The table of what is tested: for every operation what each generated test holds it against."""

from __future__ import annotations

from collections import defaultdict

from optable import by_cpu, by_cuda, table

from symgraph.autodiff.batch import BATCH
from symgraph.graph.op import Op
from symgraph.graph.registry import OPS
from tests.ops.registry_cases import (
    BAD,
    BROKEN,
    CASES,
    NAMES,
    NO_DIFFERENCES,
    NO_EXPANSION,
    NO_SYMBOLIC_SIZE,
    NOT_SAVED,
    Case,
)

INTRODUCTION = """\
What the tests that are generated from the registry hold each operation against, from the same
lists that they are made of: nothing stands here that is not run, and a dash is what has no test.
Which of them a daily run takes stands in [the design](../design.md).

| column | the test |
|---|---|
| samples | calls, and calls that must be refused with the right message |
| oracle | samples whose `ref` stands beside a function of NumPy, SciPy or mpmath |
| sizes | named sizes, put in afterwards, give what numbers give from the start |
| expansion | the index expression, or what it is made of, beside `ref` |
| CPU, CUDA | compiled, beside `ref`; *on the host* it is `ref` itself |
| gradient, order 2 | samples whose derivatives stand beside differences in float64 |
| forward | the tangent beside both: by a rule that is `given`, or the gradient `transposed` |
| batch | lanes at once beside a loop: by a rule that is `given`, or one that is `derived` |
| cost | what is `counted` of the expansion as it runs; else only the `bytes` are |
| saved | it is the same when it comes back from a file |
"""
HEADER = (
    "operation", "samples", "oracle", "sizes", "expansion", "CPU", "CUDA", "gradient", "order 2",
    "forward", "batch", "cost", "saved",
)  # fmt: skip
NONE = "–"


def coverage() -> str:
    """Write the table of all operations that have samples. Raises where an oracle is missing."""
    if BROKEN:
        raise ImportError(f"oracles cannot be imported: {BROKEN}; pip install '.[docs]'")
    cases: dict[str, list[Case]] = defaultdict(list)
    for case in CASES:
        cases[case.name].append(case)
    rows = [f"| {' | '.join(row(name, cases[name]))} |" for name in sorted(NAMES) if name in OPS]
    return "\n\n".join(["# What is tested", INTRODUCTION, table(HEADER, rows)]) + "\n"


def row(name: str, cases: list[Case]) -> list[str]:
    """Give the cells of one operation."""
    kind = OPS[name]
    bad = sum(1 for one, _, _ in BAD if one == name)
    checked = [case for case in cases if case.checked and name not in NO_DIFFERENCES]
    differentiated = str(len(checked)) if checked else NONE
    expanded = name not in NO_EXPANSION
    return [
        f"`{name}`",
        f"{len(cases)} + {bad}",
        str(sum(1 for case in cases if case.oracle is not None)),
        "yes" if any(case.sample.sizes for case in cases) else NO_SYMBOLIC_SIZE.get(name, NONE),
        "yes" if expanded else NONE,
        by_cpu(kind),
        by_cuda(kind),
        differentiated,
        differentiated,
        ("given" if _own(kind, "jvp") else "transposed") if checked else NONE,
        _batch(name, kind, cases),
        "counted" if expanded else "bytes",
        NONE if name in NOT_SAVED else "yes",
    ]


def _own(kind: type[Op], rule: str) -> bool:
    return getattr(kind, rule) is not getattr(Op, rule)


def _batch(name: str, kind: type[Op], cases: list[Case]) -> str:
    if not any(case.sample.args for case in cases):
        return NONE
    return "given" if _own(kind, "batch") or name in BATCH else "derived"
