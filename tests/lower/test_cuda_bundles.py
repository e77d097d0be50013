"""Which kernels of a device's plan run as one launch, and that those which may not are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cuda import offline
from symgraph.errors import LoweringError
from symgraph.graph.graph import Graph
from symgraph.lower.cuda import bundling, target
from symgraph.lower.cuda.bundle import Bundle
from symgraph.lower.cuda.bundling import dependences, verify
from symgraph.lower.cuda.kernel import Kernel
from symgraph.lower.cuda.module import LATCH
from symgraph.lower.cuda.target import device_target, make_device_plan
from symgraph.lower.memory import plan_memory
from symgraph.lower.plan import BundleStep, CallStep, CheckStep, KernelStep, Plan, Step, parts
from symgraph.lower.program import nbytes, number
from tests.lower.cuda_steps import B, step

ENV = {B: 128}


def planned(graph: Graph, apart: bool = False) -> Plan:
    """Plan a graph as a device with its libraries does, with kernels together or each by itself."""
    with pytest.MonkeyPatch.context() as patched:
        if apart:
            patched.setattr(target, "bundle", lambda plan, nominal: None)
        return offline.planned(graph, ENV)


@pytest.mark.parametrize(
    ("model", "before", "after"),
    [
        ("perceptron", 21, 12),
        pytest.param("alexnet", 68, 53, marks=pytest.mark.full),
        pytest.param("resnet50", 923, 689, marks=pytest.mark.full),
    ],
)
def test_steps_have_fewer_launches(model: str, before: int, after: int) -> None:
    graph = step(model)
    assert (len(planned(graph, apart=True).steps), len(planned(graph).steps)) == (before, after)


def test_updates_of_all_parameters_are_one_launch() -> None:
    """All six of a perceptron, with the loss: whatever nothing waits for."""
    plan = planned(step("perceptron"))
    targets = frozenset(plan.in_place.values())
    writing = [one for one in plan.steps if one.writes & targets]
    assert writing == plan.steps[-1:]
    assert isinstance(writing[0], BundleStep)
    assert plan.program.outputs[0] in writing[0].writes
    kernel = plan.kernels[writing[0].kernel]
    assert [part.held for part in kernel.parts] == [
        not targets.isdisjoint(part.writes) for part in writing[0].parts
    ]
    sizes = [max(number for number in each.shape) for part in writing[0].parts  # the largest first
             for each in part.writes if each in targets and len(each.shape) == 2]  # fmt: skip
    assert sizes[:2] == [1024, 1024]


def chain() -> Plan:
    """A plan of which each kernel waits for the one before, but for two at its end."""
    x = sg.tensor("x", (40, 30))
    y = sg.exp(x).sum(axis=0)
    w = sg.shared(np.ones(30, np.float32), "w")
    graph = Graph([x], [sg.exp(-x).sum(axis=1)], {w: w + y / y.sum()})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(target, "bundle", lambda plan, nominal: None)
        return make_device_plan(graph, {}, device_target({}))


def joined(plan: Plan, places: Sequence[int]) -> list[Step]:
    """The steps of a plan with some of them in one launch, at the place of the last."""
    own = [plan.steps[place] for place in places]
    kept = tuple(one for one in own if isinstance(one, KernelStep))
    steps: list[Step] = list(plan.steps)
    steps[places[-1]] = BundleStep(0, kept)
    return [one for one in steps if one not in own]


def test_kernels_that_wait_for_each_other_are_refused_in_one_launch() -> None:
    """Every pair of a plan is tried: refused are those of which one waits for the other."""
    plan = chain()
    waits = dependences(plan, plan.steps)
    count, refused = len(plan.steps), 0
    assert count >= 4
    for first in range(count):
        for second in range(first + 1, count):
            between = [waits.has_edge(first, one) for one in range(first + 1, second + 1)]
            after = joined(plan, (first, second))
            if not any(between):
                verify(plan, plan.steps, after)
                continue
            refused += 1
            with pytest.raises(LoweringError, match="which it waits for"):
                verify(plan, plan.steps, after)
    assert 0 < refused < count * (count - 1) // 2


def test_a_planted_dependence_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search is told that nobody waits for anybody, and what it finds is not believed."""
    plan = chain()
    asked: list[int] = []

    def blind(plan: Plan, steps: Sequence[Step]) -> nx.DiGraph:
        asked.append(len(steps))
        return dependences(plan, steps) if len(asked) > 1 else nx.empty_graph(asked[0], nx.DiGraph)

    monkeypatch.setattr(bundling, "dependences", blind)
    with pytest.raises(LoweringError, match=r"runs in one launch with `.*`, which it waits for"):
        bundling.bundle(plan, {})
    assert len(asked) == 2, "the search asks, and then whoever verifies"


def test_steps_that_are_lost_or_doubled_are_refused() -> None:
    plan = chain()
    for wrong in (plan.steps[:-1], [*plan.steps, plan.steps[0]], [plan.steps[0]] * len(plan.steps)):
        with pytest.raises(LoweringError, match="have not the steps that it had before"):
            verify(plan, plan.steps, wrong)
    with pytest.raises(LoweringError, match="runs before"):
        verify(plan, plan.steps, plan.steps[::-1])


def test_a_write_in_place_waits_for_readers_and_for_checks() -> None:
    plan = planned(step("perceptron"), apart=True)
    waits = dependences(plan, plan.steps)
    (check,) = [k for k, one in enumerate(plan.steps) if isinstance(one, CheckStep)]
    old = {new: plan.program.shared[one] for one, new in plan.in_place.items()}
    writers = [k for k, one in enumerate(plan.steps) if not old.keys().isdisjoint(one.writes)]
    assert len(writers) == 5
    for writer in writers:
        assert waits.has_edge(check, writer)
        for new in plan.steps[writer].writes & old.keys():
            others = [k for k in range(writer) if old[new] in plan.steps[k].buffers]
            assert all(waits.has_edge(k, writer) for k in others)
    products = [k for k, one in enumerate(plan.steps) if isinstance(one, CallStep)]
    assert any(waits.has_edge(k, writer) for k in products for writer in writers)


@pytest.mark.parametrize("room", [0, bundling.ROOM])
def test_memory_grows_by_what_is_allowed(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def total(plan: Plan) -> int:
        return plan_memory(plan.intervals(plan.temporaries(), ENV)).lower_bound

    before = total(planned(step("perceptron"), apart=True))
    monkeypatch.setattr(bundling, "ROOM", room)
    plan = planned(step("perceptron"))
    assert total(plan) <= before + room
    assert len(plan.steps) < 21, "what needs no room is done in any case"


def test_large_and_heavy_kernels_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundling, "MOST_BYTES", 20 << 20)
    plan = planned(step("perceptron"))
    large = [one for one in plan.steps if isinstance(one, KernelStep) and _moved(one) > 20 << 20]
    assert len(large) == 1, "the update of 1024 x 1024"
    assert any(isinstance(one, BundleStep) for one in plan.steps)
    for name in ("MOST_BYTES", "MOST_WORK", "MOST_LINES", "MOST_WORDS", "MOST_PARTS"):
        with monkeypatch.context() as patched:
            patched.setattr(bundling, name, 1)
            bundles = [one for one in planned(step("perceptron")).steps if len(parts(one)) > 1]
            small = [part for one in bundles for part in parts(one)]
            assert all(isinstance(part, CheckStep) for part in small), name


def _moved(step: Step) -> int:
    return sum(number(nbytes(one), ENV) for one in step.buffers)


def test_what_blocks_share_lies_in_one_place() -> None:
    """Rows of 100 and of 40 need two and one kind of room; a block of either has 256 threads."""
    x, y = sg.tensor("x", (33, 100)), sg.tensor("y", (17, 40))
    graph = Graph([x, y], [sg.softmax(x, axis=1), sg.softmax(y, axis=1)])
    (made,) = make_device_plan(graph, {}, device_target({})).kernels
    assert isinstance(made, Bundle)
    assert made.text.count("__shared__") == 1
    assert made.text.count("struct {") == 2
    assert {part.threads for part in made.parts} == {made.threads}
    kernel = made.parts[0]
    assert isinstance(kernel, Kernel)
    assert kernel.again is not None
    assert replace(kernel.again(32)).threads == 32


needed = pytest.mark.skipif(offline.found()[0] is None, reason=offline.found()[1])


@needed
@pytest.mark.parametrize(
    "architecture",
    ["sm_90", *(pytest.param(each, marks=pytest.mark.full) for each in ("sm_80", "sm_100"))],
)
def test_a_launch_needs_what_its_hungriest_part_needs(architecture: str) -> None:
    plan = planned(step("perceptron"))
    source = offline.source_of(plan)
    made = {one.name: one for one in offline.compiled(source, architecture).kernels}
    for place, kernel in enumerate(plan.kernels):
        if not isinstance(kernel, Bundle):
            continue
        alone = Plan(plan.graph, plan.program, [one for one in kernel.parts if one.text])
        parts = offline.compiled(offline.source_of(alone), architecture).kernels
        each = [one for one in parts if one.name != LATCH]
        whole = made[f"kernel{place}"]
        assert whole.shared == max(one.shared for one in each)
        assert whole.registers <= max(one.registers for one in each) + 8
        assert whole.stack == whole.spilled == 0
