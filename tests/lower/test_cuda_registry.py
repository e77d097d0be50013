"""Every sample of the registry as CUDA kernels, compiled for this CPU, against the reference.

Blocks run in random order, and so do the threads between two barriers.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import pytest

from symgraph.graph.body import nested
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.measured import measured_sizes
from symgraph.graph.onhost import on_host
from symgraph.graph.walk import topological
from tests.backends.test_native_registry import (
    KERNEL_DIFFERENTIABLE,
    Sheet,
    cases_of,
    differences,
    groups,
    pulled_back,
    together,
    whole_or_one,
)
from tests.lower.cuda_host import COMPILER, Host, planned, run
from tests.ops.registry_cases import CASES, FLOATS, KERNEL_NAMES, build, chosen

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


def is_kernels(sheet: Sheet) -> bool:
    """Tell whether all of a sample is kernels: what has no loops a library or a plan computes."""
    walked = any(on_host(node) or nested(node.op) for node in topological(sheet.outputs))
    return not walked and not measured_sizes(sheet.outputs)  # whose plan would be in stages


def require(sheets: Sequence[Sheet], folder: Path) -> None:
    """Run samples together, and say what differs."""
    problems, first = [], 0
    joined = [whole for whole, _ in together([one for one in sheets if is_kernels(one)])]
    plans = [planned(Graph(whole.inputs, whole.outputs), whole.env) for whole in joined]
    host = Host([kernel for plan in plans for kernel in plan.kernels], folder)
    for whole, plan in zip(joined, plans):
        found = run(plan, host, whole.feeds, whole.env, len(sheets), first)
        first += len(plan.kernels)
        expected = interpret(whole.outputs, whole.feeds, whole.env)
        problems += differences(found, expected, whole.labels)
    assert not problems, "\n".join(problems)


Daily = Container[str] | None  # names of samples; None means all


def check_values(names: Sequence[str], dtype: str, folder: Path, daily: Daily = None) -> None:
    sheets = []
    for case, kind in cases_of(names, dtype, daily):
        built, sheet = build(case, kind), Sheet()
        sheet.add(built, built.outputs, built.feeds)
        sheets.append(sheet)
    require(sheets, folder)


def check_gradients(names: Sequence[str], dtype: str, folder: Path, daily: Daily = None) -> None:
    cases = [pair for pair in cases_of(names, dtype, daily) if pair[0].checked]
    sheets = [pulled_back(case, kind) for case, kind in cases]
    require([sheet for sheet in sheets if sheet is not None], folder)


DAILY = chosen(CASES, "cuda")
DAILY_DERIVATIVES = chosen([case for case in CASES if case.checked], "cuda derivatives")


@whole_or_one
@pytest.mark.parametrize("names", groups(list(KERNEL_NAMES)))
def test_every_sample_is_what_the_reference_gives(
    names: Sequence[str], whole: bool, tmp_path: Path
) -> None:
    check_values(names, "float32", tmp_path, None if whole else DAILY)


def every_third(found: list[Any]) -> list[Any]:
    """Leave two of three to the full matrix: derivatives are made of operations seen above."""
    seldom = [pytest.param(*one.values, id=one.id, marks=pytest.mark.full) for one in found]
    return [one if place % 3 == 0 else seldom[place] for place, one in enumerate(found)]


@whole_or_one
@pytest.mark.parametrize("names", every_third(groups(KERNEL_DIFFERENTIABLE)))
def test_derivatives_are_what_the_reference_gives(
    names: Sequence[str], whole: bool, tmp_path: Path
) -> None:
    check_gradients(names, "float32", tmp_path, None if whole else DAILY_DERIVATIVES)


@pytest.mark.full
@pytest.mark.parametrize("dtype", [each for each in FLOATS if each != "float32"])
@pytest.mark.parametrize("names", groups(list(KERNEL_NAMES)))
def test_every_sample_in_other_dtypes(names: Sequence[str], dtype: str, tmp_path: Path) -> None:
    check_values(names, dtype, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("dtype", [each for each in FLOATS if each != "float32"])
@pytest.mark.parametrize("names", groups(KERNEL_DIFFERENTIABLE))
def test_derivatives_in_other_dtypes(names: Sequence[str], dtype: str, tmp_path: Path) -> None:
    check_gradients(names, dtype, tmp_path)
