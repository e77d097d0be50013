"""`f.profile(...)`: which steps ran, what they compute, and that nothing changes by it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cpu.onednn import library
from symgraph.errors import ArgumentError, InputError
from symgraph.runtime import profile as profile_module
from symgraph.runtime.calibrate import Peaks
from symgraph.runtime.native import NativeExecutor
from symgraph.runtime.profile import Profile, Row

needs_compiler = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is one")
needs_library = pytest.mark.skipif(bool(library.status().problem), reason="no oneDNN")
BACKENDS = ["reference", pytest.param("cpu", marks=needs_compiler)]

B = sg.dim("B")
PEAKS = Peaks(1e9, 4e9, 1e8, {})


@pytest.fixture(autouse=True)
def _known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_module, "peaks", lambda: PEAKS)


def train_step(backend: str, **more: Any) -> sg.Function:
    sg.seed(1)
    x, labels = sg.tensor("x", (B, 64)), sg.tensor("labels", (B,), "int32")
    net = sg.nn.Sequential(sg.nn.Dense(64, 32), sg.nn.Activation("tanh"), sg.nn.Dense(32, 10))
    loss = sg.nn.cross_entropy(net(x), labels).mean()
    step = sg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    updates = step.updates(loss)
    return sg.function([x, labels], loss, updates, name="step", backend=backend, **more)


def arrays(rng: np.random.Generator, count: int = 16) -> tuple[Any, Any]:
    images = rng.standard_normal((count, 64), np.float32)
    return images, rng.integers(0, 10, count).astype(np.int32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_state_stays_and_the_next_call_is_what_it_would_have_been(
    backend: str, precision: str, rng: np.random.Generator
) -> None:
    given = arrays(rng)
    f, twin = (train_step(backend, precision=precision) for _ in range(2))
    assert f(*given) == twin(*given)
    before = [(one, one.storage.version, one.storage.array, one.value) for one in f.graph.shared]
    found = f.profile(*given)
    assert found.repeat == 3
    for one, version, array, numbers in before:
        assert one.storage.version == version
        assert one.storage.array is array
        np.testing.assert_array_equal(one.value, numbers)
    for _ in range(2):
        assert f(*given) == twin(*given)


@needs_compiler
def test_a_loop_and_a_branch_are_a_row_each() -> None:
    x = sg.tensor("x", (sg.dim("T"), 3))
    rows, _ = sg.scan(lambda row, s: sg.tanh(row + s), x, [sg.zeros((3,))])
    total = sg.cond(sg.sum(x) > 0, lambda: sg.sum(rows), lambda: rows[0, 0])
    f = sg.function([x], total, backend="cpu")
    names = [row.name for row in f.profile(np.ones((4, 3), np.float32)).rows]
    assert {"loop", "branch"} <= set(names)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_profile_before_the_first_call(backend: str, rng: np.random.Generator) -> None:
    given = arrays(rng)
    f, twin = train_step(backend), train_step(backend)
    assert f.profile(*given, repeat=1).rows
    assert f(*given) == twin(*given)


@needs_compiler
def test_every_record_is_a_row_and_all_flops_are_counted(rng: np.random.Generator) -> None:
    f = train_step("cpu")
    found = f.profile(*arrays(rng))
    executor = f._executor
    assert isinstance(executor, NativeExecutor)
    assert executor.last is not None
    assert len(found.rows) == len(executor.last.records)
    counted = sg.cost(f).evaluate(B=16).flops
    assert counted <= sum(row.flops for row in found.rows) <= 1.1 * counted
    for row in found.rows:
        assert row.seconds >= 0
        assert row.predicted == max(row.flops / 1e9, row.bytes / 1e8)
        assert row.line.startswith("test_profile.py:")
    computed = {value for row in found.rows for value in row.values}
    assert computed <= {*f.graph.values, *f.graph.shared}
    assert any("tanh" in row.name for row in found.rows)
    assert any("Sequential/1" in row.line for row in found.rows)
    assert found.total == pytest.approx(sum(row.seconds for row in found.rows))


@needs_compiler
@needs_library
def test_products_have_the_name_that_the_library_gives(rng: np.random.Generator) -> None:
    x, w = sg.tensor("x", (B, 64)), sg.tensor("w", (64, 32))
    f = sg.function([x, w], sg.relu(x @ w), backend="cpu")
    arrays = np.ones((16, 64), "float32"), np.ones((64, 32), "float32")
    product, kernel = f.profile(*arrays).rows
    assert (product.name, kernel.name) == ("matmul", "relu")
    assert product.implementation not in ("generated kernel", "")
    assert not product.implementation.startswith("ref")
    assert product.flops == 2 * 16 * 64 * 32
    assert product.bytes == 4 * (16 * 64 + 64 * 32 + 16 * 32)
    assert kernel.implementation == "generated kernel"
    assert kernel.flops == 16 * 32
    assert kernel.bytes == 2 * 4 * 16 * 32


@needs_compiler
def test_kernels_are_counted_by_what_they_compute() -> None:
    x, table = sg.tensor("x", (B, 8)), sg.tensor("table", (100_000,))
    index = sg.tensor("index", (4,), "int32")
    sent = {
        "fused": (sg.function([x], sg.exp(x) * 2 + x, backend="cpu"), (np.ones((4, 8)),)),
        "sum": (sg.function([x], x.sum(), backend="cpu"), (np.ones((4096, 8)),)),
        "gather": (
            sg.function([table, index], table[index] + 1, backend="cpu"),
            (np.zeros(100_000), np.arange(4, dtype="int32")),
        ),
    }
    rows: dict[str, list[Row]] = {}
    for name, (f, given) in sent.items():
        given = tuple(np.asarray(one, v.dtype) for one, v in zip(given, f.inputs))
        rows[name] = [row for row in f.profile(*given).rows if row.flops]
    (fused,) = rows["fused"]
    assert (fused.name, fused.flops, fused.bytes) == ("exp, multiply, add", 96, 256)
    assert sum(row.flops for row in rows["sum"]) == 4096 * 8
    (gather,) = rows["gather"]
    assert gather.flops == 4
    assert gather.bytes < 4000, "the table is not read as a whole"


def test_the_reference_has_a_row_for_each_value() -> None:
    x = sg.tensor("x", (B, 8))
    f = sg.function([x], [sg.exp(x).reshape((-1,)), x.sum()], backend="reference")
    found = f.profile(np.ones((4, 8), "float32"))
    assert found.backend == "reference"
    rows = {row.name: row for row in found.rows}
    assert set(rows) == {"exp", "reshape", "sum"}
    assert (rows["exp"].flops, rows["exp"].bytes) == (32, 256)
    assert (rows["reshape"].flops, rows["reshape"].bytes) == (0, 0)
    assert {row.implementation for row in found.rows} == {"NumPy"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_table(backend: str, rng: np.random.Generator) -> None:
    text = str(train_step(backend).profile(*arrays(rng)))
    title, header, *rows, total, machine = text.splitlines()
    assert title == f"profile of step on {backend}, median of 3"
    assert header.split("  ")[0] == "step"
    assert total.startswith("total  ")
    assert machine == "peaks: 1 GFLOP/s float32, 4 GFLOP/s bfloat16, 100 MB/s copied"
    shares = [float(cell[:-1]) for row in rows for cell in row.split() if cell.endswith("%")][::2]
    assert shares == sorted(shares, reverse=True) or "others" in text
    assert sum(shares) == pytest.approx(100, abs=2)


def made(count: int) -> Profile:
    rows = [Row(f"op{n}", "NumPy", 1e-6 * (n + 1), 1e-6, 5, 7, f"a.py:{n}") for n in range(count)]
    return Profile("f", "reference", tuple(rows), 3, PEAKS)


def test_a_long_table_is_cut() -> None:
    lines = str(made(40)).splitlines()
    assert len(lines) == 2 + profile_module.MOST_ROWS + 1 + 2
    assert lines[-3].split() == ["15", "others", "120", "us", "14.6%"]
    assert lines[2].split()[:4] == ["op39", "NumPy", "40", "us"]
    assert repr(made(2)) == "<profile of f: 2 steps, 3 us>"
    assert str(Profile("f", "cpu", (), 3, PEAKS)).splitlines()[-2].startswith("total  ")
    assert made(3).rows[1].fraction == 0.5


def test_a_trace_is_a_file_for_perfetto(tmp_path: Path) -> None:
    path = made(3).trace(tmp_path / "step.json")
    assert [file.name for file in tmp_path.iterdir()] == ["step.json"]
    report = json.loads(path.read_text())
    steps = [event for event in report["traceEvents"] if event["ph"] == "X"]
    assert [event["name"] for event in steps] == ["op0", "op1", "op2"]
    for before, after in itertools.pairwise(steps):
        assert after["ts"] == pytest.approx(before["ts"] + before["dur"])
    assert steps[0]["args"]["made at"] == "a.py:0"
    assert {"pid", "tid", "cat"} <= set(steps[0])


@pytest.mark.parametrize("path", ["no/such/folder/a.json", "", 3, "a\0b", "."])
def test_a_trace_that_cannot_be_written(
    path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=r"^trace: "):
        made(1).trace(path)
    assert not list(tmp_path.iterdir())


def test_a_trace_that_was_there_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(1).trace(tmp_path / "a.json")
    before = (tmp_path / "a.json").read_text()

    def full(self: Path, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ArgumentError, match="No space left on device"):
        made(2).trace(tmp_path / "a.json")
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_call_refuses_a_profile_refuses(backend: str, rng: np.random.Generator) -> None:
    f = train_step(backend)
    images, labels = arrays(rng)
    before = [one.value for one in f.graph.shared]
    with pytest.raises(InputError, match="missing `labels`"):
        f.profile(images)
    for repeat in (0, -1, 2.5, True, "3"):
        with pytest.raises(ArgumentError, match=r"step: repeat must be an int >= 1"):
            f.profile(images, labels, repeat=repeat)  # type: ignore[arg-type]
    labels[3] = 10
    with pytest.raises(ArgumentError, match="is no class"):
        f.profile(images, labels)
    for one, numbers in zip(f.graph.shared, before):
        np.testing.assert_array_equal(one.value, numbers)
    labels[3] = 9
    assert np.isfinite(f(images, labels))


@needs_compiler
def test_the_driver_is_put_back_after_an_error(rng: np.random.Generator) -> None:
    f, (images, labels) = train_step("cpu"), arrays(rng)
    f(images, labels)
    bound = f._executor.last  # type: ignore[union-attr]
    usual = bound.driver  # type: ignore[union-attr]
    labels[0] = -1
    with pytest.raises(ArgumentError, match="is no class"):
        f.profile(images, labels)
    assert bound.driver is usual  # type: ignore[union-attr]


def test_named_arguments_and_a_function_of_nothing() -> None:
    x = sg.vector("x")
    f = sg.function([x], x + 1)
    assert [row.name for row in f.profile(x=[1.0, 2.0]).rows] == ["add"]
    assert sg.function([], []).profile().rows == ()
