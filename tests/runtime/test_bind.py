"""`f.bind(B=128)`: the memory of a call at sizes, exact, and before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.cost.limit import peak_bytes
from symgraph.cost.units import number_text
from symgraph.errors import ArgumentError, ArgumentTypeError, GuardError, MemoryLimitError
from symgraph.graph.node import Value
from symgraph.lower.program import nbytes, number
from symgraph.runtime.native import NativeExecutor

needs_compiler = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is one")

B = sg.dim("B")


def train_step(backend: str, precision: str | None = None) -> sg.Function:
    sg.seed(1)
    x, labels = sg.tensor("x", (B, 64)), sg.tensor("labels", (B,), "int32")
    net = sg.nn.Sequential(sg.nn.Dense(64, 32), sg.nn.Activation("tanh"), sg.nn.Dense(32, 10))
    loss = sg.nn.cross_entropy(net(x), labels).mean()
    step = sg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    updates = step.updates(loss)
    return sg.function([x, labels], loss, updates, name="step", backend=backend,
                       precision=precision)  # fmt: skip


def arrays(count: int) -> tuple[Any, Any]:
    return np.ones((count, 64), np.float32), np.zeros(count, np.int32)


@needs_compiler
def test_a_compiled_function_tells_exactly_what_a_call_holds() -> None:
    f = train_step("cpu")
    bound = f.bind(B=16)
    assert {str(size): value for size, value in bound.env.items()} == {"B": 16}
    x, labels = arrays(16)
    assert bound.inputs == x.nbytes + labels.nbytes
    assert bound.shared == 2 * 4 * (64 * 32 + 32 + 32 * 10 + 10) + 8  # momenta; the learning rate
    assert bound.outputs == 4
    executor = f._executor
    assert isinstance(executor, NativeExecutor)
    plan = executor.bound(bound.env)
    assert plan.memory.total == bound.arena > 0
    assert bound.constants == sum(array.nbytes for _, array in plan.held)
    parts = bound.inputs + bound.shared + bound.constants + bound.outputs + bound.arena
    assert bound.peak == parts + bound.kept

    f(x, labels)
    assert executor.bound(bound.env) is plan, "the call took the plan that was there"
    ends = [plan.offsets[one] + number(nbytes(one), bound.env) for one in plan.offsets]
    assert max(ends) <= bound.arena <= executor.arena.size


@needs_compiler
def test_copies_of_low_precision_count_as_variables() -> None:
    plain, narrow = train_step("cpu").bind(B=16), train_step("cpu", "bf16").bind(B=16)
    executor = train_step("cpu", "bf16")._executor
    assert isinstance(executor, NativeExecutor)
    copies = sum(copy.storage.array.nbytes for copy in executor.carried)
    assert narrow.shared == plain.shared + copies


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_compiler)])
def test_nothing_runs_and_nothing_is_written(backend: str) -> None:
    f = train_step(backend)
    before = [(one, one.storage.version, one.value.copy()) for one in f.graph.shared]
    f.bind(B=4)
    for one, version, numbers in before:
        assert one.storage.version == version
        np.testing.assert_array_equal(one.value, numbers)


def test_on_the_reference_it_is_the_peak_of_the_cost() -> None:
    f = train_step("reference")
    for batch in (1, 16, 300):
        bound = f.bind(B=batch)
        assert bound.peak == sg.cost(f).evaluate(B=batch).peak == peak_bytes(f.graph, bound.env)
        assert bound.arena == 0
    assert repr(f.bind(B=16)) == f"<step at B = 16: at least {number_text(f.bind(B=16).peak, 'B')}>"


@needs_compiler
def test_it_reads_well() -> None:
    f = sg.function([x := sg.tensor("x", (B, 250))], x + 1, name="next", backend="cpu")
    assert repr(f.bind(B=4)).startswith("<next at B = 4: 8")
    assert " = 4 kB inputs + " in repr(f.bind(B=4))
    nothing = sg.function([], [], name="nothing", backend="cpu").bind()
    assert repr(nothing) == "<nothing: 0 bytes>"
    assert nothing.peak == 0


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_compiler)])
def test_sizes_go_by_name_or_by_themselves(backend: str) -> None:
    f = train_step(backend)
    peaks = {f.bind(B=8).peak, f.bind({B: 8}).peak, f.bind({"B": 8}).peak, f.bind({B: 8}, B=8).peak}
    assert len(peaks) == 1
    f(*arrays(8))
    x = sg.vector("x")
    anonymous = sg.function([x], x.sum(), backend=backend)
    assert anonymous.bind({x.shape[0]: 5}).inputs == 20
    assert anonymous.bind({"x.shape[0]": 5}).inputs == 20


@pytest.mark.parametrize(
    ("sizes", "named", "error", "message"),
    [
        (None, {}, ArgumentError, r"bind: the size B has no number\.\n  fix: bind\(B=128\)"),
        (None, {"b": 3}, ArgumentError, r"bind: there is no size `b` in this graph"),
        (None, {"Batch": 3, "B": 1}, ArgumentError, r"there is no size `Batch`"),
        ({B: 3}, {"B": 4}, ArgumentError, r"bind: the size B is given as 3 and 4"),
        (None, {"B": 0}, ArgumentError, r"bind: the size B must be at least 1, got 0"),
        (None, {"B": 2.5}, ArgumentTypeError, r"bind: the size B must be an int"),
        (3, {}, ArgumentTypeError, r"bind: sizes must be a mapping.*\n  fix: bind\(B=128\)"),
        ({3: 3}, {}, ArgumentTypeError, r"bind: 3 is no size"),
    ],
)
def test_wrong_sizes(
    sizes: Any, named: dict[str, Any], error: type[Exception], message: str
) -> None:
    f = train_step("reference")
    with pytest.raises(error, match=message):
        f.bind(sizes, **named)


def test_sizes_that_a_call_would_refuse() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    f = sg.function([x, y], x + y, name="sum")
    with pytest.raises(GuardError, match=r"sum: .*needs x.shape\[0\] == y.shape\[0\], but 5 != 6"):
        f.bind({x.shape[0]: 5, y.shape[0]: 6})
    assert f.bind({x.shape[0]: 5}).inputs == 40, "the other size follows"
    short = sg.function([z := sg.tensor("z", (B - 3,))], z + 1)
    with pytest.raises(ArgumentError, match=r"bind: `z` has the shape \(-1,\) at these sizes"):
        short.bind(B=2)
    with sg.config(memory_limit="1 MB"), pytest.raises(MemoryLimitError):
        train_step("reference").bind(B=100_000)


def test_a_size_that_no_input_has() -> None:
    x: Value = sg.tensor("x", (B, 2))
    f = sg.function([x], sg.size_of(B))
    assert f.bind(B=3).inputs == 24


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_compiler)])
@pytest.mark.parametrize(
    "made",
    [
        lambda x, size: sg.zeros((size,)),
        lambda x, size: sg.broadcast_to(x[:1], (2, size)),
        lambda x, size: sg.reshape(x[:0], (0, size)),
        lambda x, size: sg.random.normal((size,)),
    ],
    ids=["zeros", "broadcast_to", "reshape", "normal"],
)
def test_a_size_that_is_negative_is_named(made: Any, backend: str) -> None:
    x = sg.tensor("x", (B,))
    f = sg.function([x], made(x, B - 3), backend=backend)
    assert f(np.ones(4, np.float32)).shape[-1] == 1
    with pytest.raises(GuardError, match=r"sizes are not negative: needs 0 <= B - 3, but 0 > -1"):
        f(np.ones(2, np.float32))
