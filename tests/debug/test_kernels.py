"""`check` of compiled functions: the first kernel that computes something else has a name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cpu.onednn import library
from symgraph.debug.kernels import KernelDifference
from symgraph.lower.llvm import operations
from symgraph.runtime.native import BoundPlan

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")

B = sg.dim("B")


def train_step(**more: Any) -> sg.Function:
    sg.seed(1)
    x, labels = sg.tensor("x", (B, 64)), sg.tensor("labels", (B,), "int32")
    net = sg.nn.Sequential(sg.nn.Dense(64, 32), sg.nn.Activation("relu"), sg.nn.Dense(32, 10))
    loss = sg.nn.cross_entropy(net(x), labels).mean()
    step = sg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    updates = step.updates(loss)
    return sg.function([x, labels], loss, updates, name="step", backend="cpu", **more)


def arrays(rng: np.random.Generator, count: int = 16) -> tuple[Any, Any]:
    images = rng.standard_normal((count, 64), np.float32)
    return images, rng.integers(0, 10, count).astype(np.int32)


def state(f: sg.Function) -> list[Any]:
    return [(one.storage.version, one.storage.array, one.value.tolist()) for one in f.graph.shared]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_right_has_no_difference(precision: str, rng: np.random.Generator) -> None:
    f, twin = train_step(precision=precision), train_step(precision=precision)
    given = arrays(rng)
    assert sg.check(f, *given) is None
    before = state(f)
    assert sg.check(f, *given) is None
    for (version, array, numbers), (after, same, there) in zip(before, state(f)):
        assert (version, numbers) == (after, there)
        assert array is same
    for _ in range(2):
        assert f(*given) == twin(*given)


def test_a_broken_operation_is_found_where_it_is(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setitem(operations.TABLE, "max", operations.TABLE["min"])
    f = train_step()
    before = state(f)
    found = sg.check(f, *arrays(rng))
    assert isinstance(found, KernelDifference)
    assert found.value.op.name == "relu"
    assert found.runs_as == "generated kernel"
    assert found.error > 0.1
    assert found.expected == max(found.expected, 0)
    assert found.found == min(found.found, 0)
    assert len(found.place) == 2
    text = str(found)
    assert text.startswith(f"`{found.value.label}` differs by ")
    assert "computed by the step `relu` (generated kernel)" in text
    assert "test_kernels.py" in text
    assert "Sequential/1" in text
    assert f"expected {found.expected:.9g} at {list(found.place)}, found {found.found:.9g}" in text
    assert [(v, n) for v, _, n in state(f)] == [(v, n) for v, _, n in before]


def test_the_difference_is_at_the_place_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(operations.TABLE, "max", operations.TABLE["min"])
    x = sg.tensor("x", (B, 3))
    f = sg.function([x], sg.relu(x) * 2, backend="cpu")
    values = np.zeros((5, 3), np.float32)
    values[3, 1] = 7
    found = sg.check(f, values)
    assert isinstance(found, KernelDifference)
    assert (found.place, found.expected, found.found) == ((3, 1), 14, 0)


def test_errors_inside_composites_belong_to_the_operation(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    x = sg.tensor("x", (B, 7))
    f = sg.function([x], sg.log_softmax(x, axis=1) + 1, backend="cpu")
    values = rng.standard_normal((40, 7), np.float32) * 3
    assert sg.check(f, values) is None
    monkeypatch.setitem(operations.TABLE, "sub", operations.TABLE["add"])
    broken = sg.function([x], sg.log_softmax(x, axis=1) + 1, backend="cpu")
    found = sg.check(broken, values)
    assert isinstance(found, KernelDifference)
    assert found.value in set(broken.graph.values)


@pytest.mark.parametrize("shape", [(100_000,), (300, 70), (1,)])
def test_reductions_in_parts(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    x = sg.tensor("x", tuple(sg.anonymous(f"N{axis}") for axis in range(len(shape))))
    values = rng.standard_normal(shape, np.float32)
    outputs = [x.sum(), sg.exp(x).max(axis=0), x.argmax()]
    assert sg.check(sg.function([x], outputs, backend="cpu"), values) is None
    monkeypatch.setitem(operations.TABLE, "add", operations.TABLE["sub"])
    if values.size > 1:
        assert sg.check(sg.function([x], x.sum() * 1.5, backend="cpu"), values) is not None


@pytest.mark.skipif(bool(library.status().problem), reason="no oneDNN")
def test_a_wrong_call_of_the_library_is_named(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    real = BoundPlan._bind_call

    def without(self: Any, place: int, step: Any, prepared: Any, records: Any) -> None:
        real(self, place, step, prepared, records)
        for call, where in self.calls:
            if "weights" in where:  # both operands are the first
                where["src"] = where["weights"]
                assert call is not None

    monkeypatch.setattr(BoundPlan, "_bind_call", without)
    x, w = sg.tensor("x", (B, 32)), sg.shared(np.eye(32, dtype=np.float32) * 2, "w")
    f = sg.function([x], sg.tanh(x @ w), backend="cpu")
    found = sg.check(f, rng.standard_normal((32, 32), np.float32))
    assert isinstance(found, KernelDifference)
    assert found.value.op.name == "matmul"
    assert found.step == "matmul"
    assert found.runs_as not in ("generated kernel", "check", "clear", "")


def test_an_error_of_a_later_kernel_is_not_blamed_on_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setitem(operations.TABLE, "min", operations.TABLE["max"])
    x = sg.tensor("x", (B, 64))
    first = sg.softmax(x, axis=1)
    columns = first.sum(axis=0)
    capped = sg.minimum(columns, 0.1)
    f = sg.function([x], [first, capped, sg.tanh(capped)], backend="cpu")
    found = sg.check(f, rng.standard_normal((9, 64), np.float32))
    assert isinstance(found, KernelDifference)
    assert found.value.label == "capped"


def test_masks_and_integers_do_not_differ_by_rounding(rng: np.random.Generator) -> None:
    x = sg.tensor("x", (B, 64))
    hidden = sg.softmax(x @ sg.shared(rng.standard_normal((64, 64), np.float32)), axis=1)
    outputs = [hidden > hidden.mean(), hidden.argmax(axis=1), sg.floor(hidden * 100)]
    f = sg.function([x], outputs, backend="cpu")
    for count in (1, 3, 64):
        assert sg.check(f, rng.standard_normal((count, 64), np.float32)) is None


def test_other_layouts_and_library_calls(rng: np.random.Generator) -> None:
    x = sg.tensor("x", (B, 8, 14, 14))
    net = sg.nn.Sequential(
        sg.nn.Conv2d(8, 16, 3, padding=1), sg.nn.Activation("relu"), sg.nn.MaxPool2d(2),
        sg.nn.Conv2d(16, 16, 3),
    )  # fmt: skip
    loss = (net(x) ** 2).mean()
    updates = sg.optim.SGD(net.parameters(), lr=0.1).updates(loss)
    f = sg.function([x], loss, updates, backend="cpu")
    assert sg.check(f, rng.standard_normal((4, 8, 14, 14), np.float32)) is None


def test_random_numbers_sizes_and_empty_arrays() -> None:
    x = sg.tensor("x", (sg.anonymous("N"), 5))
    outputs = [x + sg.random.normal(x.shape), x.sum(axis=1) / sg.size_of(x.shape[0]), x.T]
    f = sg.function([x], outputs, backend="cpu")
    for count in (0, 1, 6):
        assert sg.check(f, np.ones((count, 5), np.float32)) is None


def test_a_tolerance_of_ones_own(rng: np.random.Generator) -> None:
    f = train_step()
    given = arrays(rng, 64)
    assert sg.check(f, *given, rtol=0.5) is None
    x = sg.tensor("x", (B,))
    exact = sg.function([x], sg.exp(x), backend="cpu")
    assert sg.check(exact, rng.standard_normal(1000, np.float32)) is None
