"""Functions in files: what comes back is the graph that was saved, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import symgraph as sg
from models.common.classifier import train_step
from models.resnet import ResNet, optimizer
from symgraph.errors import ArgumentTypeError, CheckpointError
from symgraph.graph.body import nested
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import Constant, Input, Shared
from symgraph.graph.measured import measured_sizes
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.graph.walk import topological
from symgraph.io.attributes import fits, float_bits, float_of
from symgraph.io.boundedjson import decode_json, encode_json
from symgraph.io.graphcodec import Decoder, Encoder, names_of
from symgraph.nn import BatchNorm, Conv2d, Dense, Dropout, Flatten, Sequential
from tests.ops.registry_cases import CASES, NAMES, NOT_SAVED, STRUCTURE, build
from tests.random_graphs import Program
from tests.random_maker import programs

Array = Any


def again(graph: Graph) -> Graph:
    """Write a graph as text and arrays, and read it."""
    encoder = Encoder(graph)
    document: Any = decode_json(encode_json(encoder.document, "graph"), strict=True)
    return Decoder(document, encoder.tensors, "memory").graph


def assert_same(one: Sequence[Value], other: Sequence[Value]) -> None:
    """Fail unless two graphs have the same operations, attributes, operands and types, in order."""
    first, second = topological(one), topological(other)
    assert len(first) == len(second)
    place = {value: number for number, value in enumerate(first)}
    place |= {value: number for number, value in enumerate(second)}
    for a, b in zip(first, second):
        assert str(a.type) == str(b.type)
        assert [place[each] for each in a.inputs] == [place[each] for each in b.inputs]
        assert [str(guard) for guard in a.guards] == [str(guard) for guard in b.guards]
        if isinstance(a, Shared):
            assert isinstance(b, Shared)
            assert b.label == a.label
            assert a.storage is not b.storage
            assert a.value.tobytes() == b.value.tobytes()
        elif isinstance(a.op, Input):
            assert isinstance(b.op, Input)
            assert b.label == a.label
        elif isinstance(a.op, Constant):
            assert isinstance(b.op, Constant)
            assert a.op.array.tobytes() == b.op.array.tobytes()
        elif nested(a.op):
            assert b.op.name == a.op.name
            for body, copy in zip(nested(a.op), nested(b.op), strict=True):
                assert_same(body.inputs, copy.inputs)
                assert_same(body.outputs, copy.outputs)
        else:
            assert _text(a.op) == _text(b.op)
            assert [str(size) for size in a.op.dims()] == [str(size) for size in b.op.dims()]


def _text(op: Op) -> str:
    """Write an operation with everything that tells it from others, but for sizes by identity."""
    written = {name: getattr(op, name) for name in op.attributes()}
    return f"{op.name} " + " ".join(f"{name}={_exact(one)}" for name, one in written.items())


def _exact(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_exact, value))})"
    if isinstance(value, Shared):
        return value.label
    return value.hex() if isinstance(value, float) else f"{type(value).__name__} {value}"


def test_every_sample_of_every_operation_comes_back() -> None:
    for name in [one for one in NAMES if one not in NOT_SAVED]:
        cases = [build(case) for case in CASES if case.name == name]
        outputs = [one for case in cases for one in case.outputs]
        inputs = [one for case in cases for one in case.inputs]
        graph = Graph(inputs, outputs, {}, measured_sizes(outputs))
        found = again(graph)
        assert_same(graph.inputs, found.inputs)
        assert_same(graph.outputs, found.outputs)
        if name in STRUCTURE or not cases:
            continue
        case, count = cases[0], len(cases[0].outputs)
        feeds = dict(zip(found.inputs, case.arrays))
        for a, b in zip(
            interpret(case.outputs, case.feeds, case.env),
            interpret(found.outputs[:count], feeds, case.env),
            strict=True,
        ):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), name


def test_random_graphs_come_back_and_compute_the_same(tmp_path: Path) -> None:
    @settings(max_examples=25)
    @given(programs())
    def each(program: Program) -> None:
        with sg.config(float_dtype="float64"):
            leaves = program.declare()
            slots = program.build(leaves)
            outputs = [slots[place] for place in program.outputs]
            f = sg.function(program.inputs(slots), outputs, program.new_values(slots))
            f.save(tmp_path / "f.sgz")
            g = sg.load(tmp_path / "f.sgz")
            assert_same(f.built.roots, g.built.roots)
            arrays = program.inputs(program.arrays)
            for a, b in zip(f(*arrays), g(*arrays), strict=True):
                assert a.tobytes() == b.tobytes()
            for name, variable in f.shared.items():
                assert variable.value.tobytes() == g.shared[name].value.tobytes()

    each()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.sgz"


def test_a_training_step_goes_on_bit_for_bit(path: Path, rng: np.random.Generator) -> None:
    net = ResNet(18, 3, stem="small", width=2)
    step = train_step(net, optimizer(net, 0.02), 12)
    images = rng.integers(0, 256, (4, 3, 12, 12)).astype(np.float32)
    labels = rng.integers(0, 3, 4).astype(np.int32)
    arrays = [images if one.ndim == 4 else labels for one in step.inputs]
    step(*arrays)
    step.save(path)
    loaded = sg.load(path)
    assert_same(step.built.roots, loaded.built.roots)
    for _ in range(2):
        first, second = step(*arrays), loaded(*arrays)
        assert np.asarray(first).tobytes() == np.asarray(second).tobytes()
    ours, theirs = step.shared, loaded.shared
    assert list(ours) == list(theirs)
    assert len(ours) > 30
    for name, variable in ours.items():
        assert variable.value.tobytes() == theirs[name].value.tobytes()
        assert variable.storage is not theirs[name].storage


def test_random_streams_go_on_in_a_compiled_function(path: Path) -> None:
    sg.seed(3)
    net = Sequential(Conv2d(1, 2, 3), BatchNorm(2), Flatten(), Dropout(0.5), Dense(8, 2))
    x = sg.tensor("x", (sg.dim("B"), 1, 4, 4))
    f = sg.function([x], {"out": net(x, train=True)}, backend="cpu")
    batch = np.ones((3, 1, 4, 4), np.float32)
    before = f(batch)["out"]
    f.save(path)
    g = sg.load(path, backend="cpu")
    assert g.backend == "cpu"
    for _ in range(2):
        a, b = f(batch)["out"], g(batch)["out"]
        assert a.tobytes() == b.tobytes() != before.tobytes()


def test_loops_and_branches_come_back_with_what_is_in_them(path: Path) -> None:
    rows, w = sg.matrix("rows"), sg.shared([0.5, 2.0], "w")
    inner = lambda total, r: sg.cond(r.sum() > 0, lambda: total + r, lambda: total * w)
    out, _ = sg.scan(lambda r, h: inner(h, r), sequences=rows, outputs_info=sg.constant([0.0, 0.0]))
    cost = out.sum()
    f = sg.function([rows], [out, sg.grad(cost, w)], updates={w: w - sg.grad(cost, w)})
    f.save(path)
    g = sg.load(path)
    assert_same(f.built.roots, g.built.roots)
    data = np.array([[1, 2], [-3, 1], [2, 2]], np.float32)
    for a, b in zip(f(data), g(data), strict=True):
        assert a.tobytes() == b.tobytes()
    np.testing.assert_array_equal(w.value, g.shared["w"].value)


def test_what_is_saved_is_the_graph_before_passes(path: Path) -> None:
    x = sg.vector("x")
    f = sg.function([x], (x + 0.0) * 1.0)
    f.save(path)
    g = sg.load(path)
    assert [one.op.name for one in g.built.values] == [one.op.name for one in f.built.values]
    assert len(g.graph.values) == len(f.graph.values) < len(g.built.values)


@pytest.mark.parametrize("outputs", [None, "one", "list", "mapping"])
def test_outputs_are_arranged_as_they_were(path: Path, outputs: str | None) -> None:
    x, n = sg.vector("x"), sg.shared(0, "n")
    asked: Any = {
        None: None, "one": x * 2, "list": [x, x + 1], "mapping": {"a": x, 3: x + 1, (1, "b"): x},
    }[outputs]  # fmt: skip
    sg.function([x], asked, updates={n: n + 1}, name="counted").save(path)
    found = sg.load(path)
    assert found.name == "counted"
    result = found([1.0])
    assert found.shared["n"].value == 1
    assert n.value == 0
    if outputs is None:
        assert result is None
    elif outputs == "mapping":
        assert list(result) == ["a", 3, (1, "b")]
    else:
        assert isinstance(result, list) == (outputs == "list")


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_constants_and_variables_come_back(path: Path, dtype: str) -> None:
    weights = np.array([1 + 2j, complex(-0.0, float("inf")), 3j], dtype)
    z = sg.tensor("z", (3,), dtype)
    large = sg.constant(np.arange(300).astype(dtype) * 1j)
    f = sg.function([z], [z * sg.shared(weights, "w"), large + 1j, sg.constant(2 - 1j, dtype) * z])
    f.save(path)
    loaded = sg.load(path)
    given = np.array([1, 2j, -1], dtype)
    for one, other in zip(f(given), loaded(given), strict=True):
        assert one.dtype == other.dtype == dtype
        assert one.tobytes() == other.tobytes()


def test_names_minima_and_guards_come_back(path: Path) -> None:
    B = sg.dim("Batch_or_none", min=0)
    x, y = sg.tensor("x", (B, 2)), sg.matrix("y")
    sg.function([x, y], x + y).save(path)
    del B, x, y
    ones = lambda rows: np.ones((rows, 2), np.float32)
    found = sg.load(path)
    assert found.inputs[0].type.shape[0] is sg.dim("Batch_or_none", min=0)  # type: ignore[union-attr]
    assert found(x=ones(0), y=ones(0)).shape == (0, 2)
    with pytest.raises(sg.errors.GuardError, match="add"):
        found(x=ones(3), y=ones(4))
    assert "scopes" not in str(found)


def test_variables_of_one_name_are_told_apart(path: Path) -> None:
    first, second, third = (sg.shared(float(n), "w") for n in range(3))
    assert list(names_of([first, second, third])) == ["w", "w_2", "w_3"]
    sg.function([], first + second + third).save(path)
    found = sg.load(path)
    assert [float(one.value) for one in found.shared.values()] == [0.0, 1.0, 2.0]
    found.shared["w_2"].value = 5.0
    assert float(found()) == 7.0
    assert float(second.value) == 1.0


def test_attributes_that_no_file_can_hold_are_refused_by_name(path: Path) -> None:
    x = sg.vector("x")
    f = sg.function([x], sg.tap(x, print))
    with pytest.raises(ArgumentTypeError, match=r"attribute fn of `tap` .*the function `print`"):
        f.save(path)
    with pytest.raises(ArgumentTypeError, match="key of the outputs"):
        sg.function([x], {np.float32: x}).save(path)
    assert not path.exists()


def test_a_folder_that_is_not_there_and_a_file_that_is_not(tmp_path: Path) -> None:
    x = sg.vector("x")
    f = sg.function([x], x)
    with pytest.raises(CheckpointError, match="could not be written: No such file"):
        f.save(tmp_path / "no" / "net.sgz")
    with pytest.raises(sg.errors.CheckpointMissingError, match="there is no file"):
        sg.load(tmp_path / "net.sgz")
    with pytest.raises(CheckpointError, match="no regular file"):
        sg.load(tmp_path)


@pytest.mark.parametrize("number", [0.0, -0.0, float("nan"), float("-inf"), 0.1, 5e-324])
def test_floats_keep_their_bits(number: float) -> None:
    found = float_of(float_bits(number))
    assert found is not None
    assert float_bits(found) == float_bits(number)
    assert float_of(float_bits(number)[1:]) is None
    assert float_of("zz" * 8) is None


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (1, int, True), (True, int, False), (1, float, True), (True, bool, True),
        ("a", int | None, False), (None, int | None, True), ((1, 2), tuple[int, ...], True),
        ((1, "a"), tuple[int, ...], False), ((1, 2), tuple[int, int], True),
        ((1,), tuple[int, int], False), (1, Any, True), ([1], tuple[int, ...], False),
    ],
)  # fmt: skip
def test_attributes_are_of_the_types_that_operations_declare(
    value: Any, hint: Any, right: bool
) -> None:
    assert fits(value, hint) == right
