"""Batches of every sample, compiled for this CPU and as CUDA kernels, against the reference.

With no rule in the table, so that every operation but the elementwise ones goes the way of those
that bring no rule: its index expression with one more axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from symgraph.backends.cpu.compiler import unavailable
from symgraph.graph.dtypes import is_float
from symgraph.graph.registry import F
from symgraph.graph.walk import topological
from tests.backends.test_native_registry import Sheet, groups, require
from tests.lower import test_cuda_registry as cuda
from tests.lower.cuda_host import COMPILER
from tests.ops.registry_cases import build
from tests.ops.test_registry_transforms import PLAIN, Lanes, cases_of, subsets

LANES = 2


def sheets_of(names: Sequence[str], most: int = 2) -> list[Sheet]:
    """Give batches of the first samples of operations, their sizes as symbols."""
    sheets = []
    for name in names:
        for case in [case for case in cases_of(name) if case.sample.args][:most]:
            lanes = Lanes(case, list(range(len(case.sample.args))), LANES)
            outputs: Any = F.batch(lanes.built.outputs, lanes.whole, lanes.size)
            sheet = Sheet()
            feeds = {x: a for x, a in lanes.feeds().items() if x not in lanes.whole}
            sheet.add(lanes.built, outputs, feeds)
            sheet.labels = [("composite", label) for _, label in sheet.labels]
            sheets.append(sheet)
    return sheets


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")
@pytest.mark.parametrize("names", groups(PLAIN))
def test_native(names: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symgraph.autodiff.batch.BATCH", {})
    require(sheets_of(names))


@pytest.mark.full
@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
@pytest.mark.parametrize("names", groups(PLAIN))
def test_cuda(names: Sequence[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("symgraph.autodiff.batch.BATCH", {})
    cuda.require(sheets_of(names, most=1), tmp_path)


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")
@pytest.mark.parametrize("name", ["loop", "branch"])
def test_loops_and_branches_with_their_derivatives(name: str) -> None:
    sheets = []
    for case in (cases_of(name)[0], cases_of(name)[-1]):
        for slots in (subsets(build(case))[0], subsets(build(case))[-1]):
            lanes = Lanes(case, slots, LANES)
            outputs: Any = F.batch(lanes.built.outputs, lanes.whole, lanes.size)
            wrt = [lanes.whole.get(x, x) for x in lanes.built.inputs if is_float(x.dtype)]
            ones = [F.ones_like(each) for each in outputs]
            pushed = F.jvp(outputs, wrt, [F.ones_like(x) for x in wrt], missing="zero")
            pulled = F.vjp(outputs, wrt, ones, missing="zero")
            sheet = Sheet()
            used = set(topological([*outputs, *pushed, *pulled]))
            feeds = {x: array for x, array in lanes.feeds().items() if x in used}
            sheet.add(lanes.built, [*outputs, *pushed, *pulled], feeds)
            sheet.labels = [("composite", label) for _, label in sheet.labels]
            sheets.append(sheet)
    require(sheets)
