"""The device suite, `pytest -m gpu`: everything that only a GPU can prove.

Each test also runs on a device that is this CPU, on less, so that the suite itself is known to work
before a GPU is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cuda.device import Device
from symgraph.backends.cuda.device import device as opened
from symgraph.config import config
from symgraph.errors import BackendError, DeviceError
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value, make
from symgraph.graph.walk import topological
from symgraph.lower import reach
from symgraph.passes.precision import PASSES
from symgraph.runtime.device import DeviceExecutor
from tests.backends.host_device import HostDevice
from tests.backends.host_libraries import HostLibrary, libraries
from tests.backends.test_native_registry import (
    KERNEL_DIFFERENTIABLE,
    Sheet,
    cases_of,
    differences,
    executor_of,
    groups,
    pulled_back,
    together,
)
from tests.lower.cuda_host import COMPILER
from tests.ops.registry_cases import CASES, FLOATS, KERNEL_NAMES, NAMES, build, chosen

GPU = pytest.param("gpu", marks=pytest.mark.gpu)
HOST = pytest.param(
    "host", marks=pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
)


@pytest.fixture
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    if request.param == "gpu":
        return opened(0)
    made = HostDevice(tmp_path, f"cuda of {tmp_path}")
    made.libraries = libraries(HostLibrary())
    return made


def require(sheets: Sequence[Sheet], device: Device) -> None:
    """Run samples, the first call step by step, the second recorded, the third as recorded."""
    problems = []
    for whole, _ in together(sheets):
        expected = interpret(whole.outputs, whole.feeds, whole.env)
        executor = executor_of(whole, device)
        first, second, third = (executor.run(whole.feeds, whole.env) for _ in range(3))
        problems += differences(first, expected, whole.labels)
        for one, again, label in zip(first, second, whole.labels, strict=True):
            if one.tobytes() != again.tobytes():
                problems.append(f"{label[1]}: captured, other bits")
        assert [one.tobytes() for one in second] == [one.tobytes() for one in third]
    assert not problems, "\n".join(problems)


DAILY_SAMPLES = chosen([case for case in CASES if case.checked], "host device")


def fewer(device: Device) -> set[str] | None:
    """Give the samples that run where a compiler of C++ stands for a GPU; None are all."""
    return DAILY_SAMPLES if isinstance(device, HostDevice) else None


SLICE = groups(list(KERNEL_NAMES))[:1]
WALKED = groups([name for name in NAMES if name not in KERNEL_NAMES])  # by the host, or its `ref`
LOOPS = [pytest.param(["loop", "branch"], id="loop-branch")]


def on(device: Any, names: Sequence[Any]) -> list[Any]:
    return [
        pytest.param(
            device.values[0], *one.values, id=f"{device.values[0]}-{one.id}", marks=device.marks
        )
        for one in names
    ]


# On the host each dtype takes half a minute; the others are in the full matrix.
DAILY = [
    pytest.param(dtype, marks=() if dtype == "bfloat16" else pytest.mark.full) for dtype in FLOATS
]


@pytest.mark.parametrize(
    ("device", "names"),
    [*on(HOST, [*SLICE, *LOOPS]), *on(GPU, [*groups(list(KERNEL_NAMES)), *WALKED])],
    indirect=["device"],
)
@pytest.mark.parametrize("dtype", DAILY)
def test_every_sample(device: Device, names: Sequence[str], dtype: str) -> None:
    sheets = []
    for case, kind in cases_of(names, dtype, fewer(device)):
        built, sheet = build(case, kind), Sheet()
        sheet.add(built, built.outputs, built.feeds)
        sheets.append(sheet)
    require(sheets, device)


@pytest.mark.parametrize(
    ("device", "names"),
    [
        *on(HOST, [*groups(KERNEL_DIFFERENTIABLE)[:1], *LOOPS]),
        *on(GPU, [*groups(KERNEL_DIFFERENTIABLE), *WALKED]),
    ],
    indirect=["device"],
)
def test_derivatives(device: Device, names: Sequence[str]) -> None:
    cases = [pair for pair in cases_of(names, "float32", fewer(device)) if pair[0].checked]
    sheets = [pulled_back(case, kind) for case, kind in cases]
    require([sheet for sheet in sheets if sheet is not None], device)


each = pytest.mark.parametrize("device", [HOST, GPU], indirect=True)


def products(dtype: str = "float32") -> tuple[list[Value], list[Value], dict[Value, Any]]:
    """Products and convolutions large enough for the libraries, and their gradients."""
    rng = np.random.default_rng(5)
    shapes = {
        "x": (32, 64), "w": (64, 48), "b": (48,), "image": (8, 32, 14, 14),
        "filters": (64, 16, 3, 3), "shift": (64, 1, 1), "left": (3, 32, 64), "right": (3, 64, 32),
    }  # fmt: skip
    v = {name: sg.tensor(name, shape, dtype) for name, shape in shapes.items()}
    numbers = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    feeds = {v[n]: (0.2 * array).astype(dtype) for n, array in numbers.items()}
    dense = v["x"] @ v["w"] + v["b"]
    convolved = sg.conv2d(v["image"], v["filters"], padding=1, stride=2, groups=2) + v["shift"]
    batched = v["left"] @ v["right"]
    loss = sg.tanh(dense).sum() + sg.tanh(convolved).sum() + sg.tanh(batched).sum()
    outputs = [dense, convolved, batched, *sg.grad(loss, list(v.values()))]
    return list(v.values()), outputs, feeds


@each
@pytest.mark.parametrize(
    ("precision", "limit"), [("fp32", 2e-6), ("tf32", 2e-3), ("fp16", 4e-3), ("bf16", 3e-2)]
)
def test_libraries_in_every_precision(device: Device, precision: str, limit: float) -> None:
    """Errors are norms, of the difference over the exact one in float64."""
    inputs, outputs, feeds = products()
    exact = interpret(*products("float64")[1:])
    graph = Graph(inputs, outputs)
    for each_pass in PASSES[precision]:
        graph = each_pass(graph)
    executor = DeviceExecutor(graph, device, precision)
    for _ in range(3):
        for one, wanted in zip(executor.run(feeds, {}), exact, strict=True):
            error = np.linalg.norm(one.astype(np.float64) - wanted) / np.linalg.norm(wanted)
            assert error < limit


WAYS = [
    # images, filters, stride, operation
    ((8, 32, 14, 14), (64, 32, 3, 3), 1),
    ((8, 32, 14, 14), (64, 16, 3, 3), 1),
    ((8, 32, 14, 14), (64, 32, 3, 3), 2),
    ((8, 32, 14, 14), (64, 16, 3, 3), 2),
    ((4, 48, 9, 9), (128, 24, 5, 5), 1),
    ((4, 3, 33, 33), (32, 3, 7, 7), 4),
]


def of_ways(
    images: tuple[int, ...], filters: tuple[int, ...], stride: int, dtype: str
) -> list[tuple[str, Value, dict[Value, Any]]]:
    """Convolutions in all directions, as single operations, with their numbers."""
    rng = np.random.default_rng(7)
    x, w = sg.tensor("x", images, dtype), sg.tensor("w", filters, dtype)
    groups = images[1] // filters[1]
    plain = sg.conv2d(x, w, stride=stride, padding=filters[2] // 2, groups=groups)
    g = sg.tensor("g", plain.shape, dtype)
    feeds = {
        one: (0.2 * rng.standard_normal(one.shape)).astype(numpy_dtype(dtype)) for one in (x, w, g)
    }
    by_x, by_w = sg.grad((plain * g).sum(), [x, w])
    backwards = {one.op.name: one.op for one in topological([by_x, by_w])}
    return [
        ("conv", plain, feeds),
        ("conv_input", make(backwards["conv_input"], g, w), feeds),
        ("conv_weight", make(backwards["conv_weight"], x, g), feeds),
    ]


@each
@pytest.mark.parametrize(
    ("precision", "limit"),
    [
        pytest.param("fp32", 2e-6, marks=pytest.mark.full),
        pytest.param("tf32", 2e-3, marks=pytest.mark.full),
        pytest.param("fp16", 4e-3, marks=pytest.mark.full),
        pytest.param("bf16", 3e-2, marks=pytest.mark.full),
    ],
)
def test_every_way_of_a_library(device: Device, precision: str, limit: float) -> None:
    """Whichever is the fastest must be right: each plan, on random numbers."""
    dtype = {"fp16": "float16", "bf16": "bfloat16"}.get(precision, "float32")
    wrong = []
    for images, filters, stride in WAYS:
        for name, value, feeds in of_ways(images, filters, stride, dtype):
            inputs = list(value.inputs)
            executor = DeviceExecutor(Graph(inputs, [value]), device, precision)
            bound = executor.bound({})
            exact = [feeds[one].astype(np.float64) for one in inputs]
            wanted = value.op.ref(np, *exact)
            for routine in bound.routines.values():
                for way in routine.alternatives():
                    if way == "nothing, with an error":
                        continue
                    routine.choose(way)
                    bound.lay_out()
                    with config(capture=False):
                        (found,) = executor.run({one: feeds[one] for one in inputs}, {})
                    error = np.linalg.norm(found.astype(np.float64) - wanted)
                    if not error < limit * np.linalg.norm(wanted):
                        error /= np.linalg.norm(wanted)
                        wrong.append(f"{name} {images} {filters} / {stride}: {error:.2g} by {way}")
    assert not wrong, "\n".join(wrong)


@each
@pytest.mark.parametrize(
    "dtype",
    ["bfloat16", *(pytest.param(one, marks=pytest.mark.full) for one in ("float16", "float32"))],
)
def test_a_way_that_is_restored_changes_no_bit(device: Device, dtype: str) -> None:
    """What an earlier process has saved computes what was built, also as it is recorded."""
    count = 0
    for images, filters, stride in WAYS[1:2] if isinstance(device, HostDevice) else WAYS:
        for _, value, feeds in of_ways(images, filters, stride, dtype):
            inputs = list(value.inputs)
            graph, given = Graph(inputs, [value]), {one: feeds[one] for one in inputs}
            executor, later = DeviceExecutor(graph, device), DeviceExecutor(graph, device)
            (built,) = executor.bound({}).routines.values()
            (restored,) = later.bound({}).routines.values()
            for way in built.alternatives():
                if way == "nothing, with an error":
                    continue
                assert built.choose(way)
                saved = built.saved()
                assert saved, way
                assert restored.restore(way, saved), way
                assert restored.workspace == built.workspace
                executor.bound({}).lay_out()
                later.bound({}).lay_out()
                (wanted,) = executor.run(given, {})
                for _ in range(3):
                    (found,) = later.run(given, {})
                    assert found.tobytes() == wanted.tobytes(), way
                count += 1
    assert count > 6, "several ways of several operations"


@each
def test_capture_changes_no_bit(device: Device) -> None:
    inputs, outputs, feeds = products()
    found = []
    for capture in (True, False):
        executor = DeviceExecutor(Graph(inputs, outputs), device)
        with config(capture=capture):
            found.append([[one.tobytes() for one in executor.run(feeds, {})] for _ in range(3)])
    assert found[0] == found[1]
    assert found[0][0] == found[0][1]


@each
def test_wide_indices_change_no_bit(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of 64 bits are otherwise only asked for by arrays of billions of elements."""
    inputs, outputs, feeds = products()
    found = []
    for limit in (reach.LIMIT, 0):
        monkeypatch.setattr(reach, "LIMIT", limit)
        executor = DeviceExecutor(Graph(inputs, outputs), device)
        found.append([[one.tobytes() for one in executor.run(feeds, {})] for _ in range(3)])
    assert found[0] == found[1]


@each
def test_copies_there_and_back(device: Device) -> None:
    for dtype in ("float32", "bfloat16", "int8", "bool"):
        array = np.arange(1, 9).astype(numpy_dtype(dtype))
        held, other = device.reserve(array.nbytes), device.reserve(array.nbytes)
        device.upload(held.address, array)
        device.copy(other.address, held.address, array.nbytes)
        back = np.zeros_like(array)
        device.download(back, other.address)
        assert back.tobytes() == array.tobytes()


@pytest.mark.gpu
def test_more_memory_than_there_is() -> None:
    with pytest.raises(BackendError, match=r"cuda:0: 1,125,899,906,842,624 bytes .* not to be had"):
        opened(0).reserve(1 << 50)


@pytest.mark.gpu
def test_a_device_that_is_not_there() -> None:
    x = sg.tensor("x", (3,))
    with pytest.raises(DeviceError, match="cuda:99: this machine has"):
        sg.function([x], sg.exp(x), backend="cuda:99")


@pytest.mark.gpu
def test_libraries_are_there() -> None:
    """Without them the suite would only show generated kernels."""
    inputs, outputs, _ = products()
    taken = [one.op.name for one in Graph(inputs, outputs).values if opened(0).libraries.takes(one)]
    assert {"conv", "conv_input", "conv_weight", "matmul"} <= set(taken)
