"""NumPy functions and Python's protocols on symbolic values: they build graph, or say why not."""

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentTypeError, DTypeError, GraphError, UndecidedError

X = np.array([[1.5, -2.0, 0.25], [3.0, 0.5, -1.0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.sin(x),
        lambda x: np.sum(x, axis=0),
        lambda x: np.sum(x, 1, keepdims=True),
        lambda x: np.mean(x),
        lambda x: np.var(x, axis=1, ddof=1),
        lambda x: np.std(x, axis=0),
        lambda x: np.max(x, axis=1),
        lambda x: np.argmax(x, axis=1),
        lambda x: np.concatenate([x, x], axis=1),
        lambda x: np.stack([x, x], axis=1),
        lambda x: np.where(x > 0, x, 0.0),
        lambda x: np.clip(x, 0.0, 1.0),
        lambda x: np.clip(x, min=0.0, max=1.0),
        lambda x: np.take(x, [0, 4, -1]),
        lambda x: np.take(x, [2, 0], axis=1),
        lambda x: np.ravel(x),
        lambda x: np.transpose(x),
        lambda x: np.flip(x),
        lambda x: np.round(x),
        lambda x: np.matmul(X.T, x),
        lambda x: X.T @ x,
        lambda x: np.ones(3) + x,
        lambda x: np.float64(2.0) * x,
        lambda x: np.equal(X, x),
        lambda x: divmod(x, 0.75)[0],
        lambda x: divmod(2.5, x)[1],
        lambda x: abs(x),
    ],
)
def test_calls_that_build_graph_agree_with_numpy(call: object) -> None:
    x = sg.tensor("x", (2, 3), "float64")
    value = call(x)  # type: ignore[operator]
    assert isinstance(value, sg.Value)
    np.testing.assert_allclose(value.eval(x=X), call(X), rtol=1e-12)  # type: ignore[operator]


def test_the_builtin_round_rounds_to_whole_numbers() -> None:
    x = sg.tensor("x", (2, 3), "float64")
    assert round(x).eval(x=X).tolist() == np.rint(X).tolist()


def test_an_array_on_the_left_builds_the_graph_once() -> None:
    x = sg.vector("x", "float64")
    left = np.ones(3) * x
    assert left.op.name == "multiply"
    assert [type(operand) for operand in left.inputs] == [sg.Value, sg.Value]


def test_shape_ndim_and_size_are_known_without_computing() -> None:
    batch = sg.dim("B")
    x = sg.tensor("x", (batch, 3))
    assert np.shape(x) == (batch, 3)
    assert np.ndim(x) == 2
    assert np.size(x) is batch * 3


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: np.mean(x, dtype=np.float64), "numpy.mean: .* 'dtype'"),
        (lambda x: np.where(x > 0), "numpy.where: .* argument: 'x'"),
        (lambda x: np.round(x, 2), "numpy.round: .* too many positional"),
        (lambda x: np.linalg.tensorinv(x), "numpy.tensorinv: has no symbolic form"),
        (lambda x: np.add(x, x, out=X), r"numpy.add: .* options \['out'\]"),
        (lambda x: np.add.reduce(x), "numpy.add: .*method reduce"),
        (lambda x: np.divmod(x, x), "numpy.divmod: has no symbolic form"),
        (lambda x: np.asarray(x), "array: `x` is symbolic"),
        (lambda x: np.array([x, x]), "sg.stack joins values"),
        (lambda x: X[x.sum().cast("int64")], "sg.take"),
        (lambda x: float(x), "float: `x` is symbolic"),
        (lambda x: int(x), "int: `x` is symbolic"),
        (lambda x: range(x), "index: `x` is symbolic"),
        (lambda x: 0 < x < 1, "neither true nor false"),
        (lambda x: 1.0 in x, "in: whether `x` contains"),
        (lambda x: round(x, 2), "round: only to whole numbers"),
        (lambda x: list(x.sum()), "len: .* is a scalar"),
        (lambda x: x.__setitem__(0, 1.0), r"assignment: `x` .* never changes"),
        (lambda x: x + None, "operand: NoneType"),
        (lambda x: x + b"1", "operand: bytes"),
    ],
)
def test_calls_that_have_no_symbolic_meaning_say_so(call: object, text: str) -> None:
    x = sg.tensor("x", (2, 3), "float64")
    with pytest.raises(ArgumentTypeError, match=text):
        call(x)  # type: ignore[operator]


def test_iteration_needs_a_known_size() -> None:
    assert len(list(sg.tensor("x", (3, 2)))) == 3
    x = sg.tensor("x", (sg.dim("B"), 3))
    with pytest.raises(UndecidedError, match="first size of `x` is symbolic: B"):
        list(x)


def test_a_value_among_values_is_found_by_identity() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    assert x in [x, y]
    with pytest.raises(ArgumentTypeError, match="neither true nor false"):
        assert x in [y]


def test_values_cannot_be_emptied() -> None:
    x = sg.vector("x")
    with pytest.raises(GraphError, match="`op` of `x` stays"):
        del x.op


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: sg.vector("h", "float16") + 1e6, "float16, it was given 1000000.0"),
        (lambda: sg.vector("h", "float16") * 100_000, "float16, it was given 100000"),
        (lambda: sg.vector("x") + 10**400, "float32, it was given 1000"),
        (lambda: sg.vector("i", "int32") + 2**40, "does not fit into int32"),
        (lambda: sg.constant(2**70), "int64, it was given 1180591620717411303424"),
        (lambda: sg.constant(300, "uint8"), r"uint8, it was given 300.*\(0 to 255\)"),
        (lambda: sg.constant([1.5], "int32"), "float64 with fractions"),
        (lambda: sg.constant(float("nan"), "int32"), "int32, it was given nan"),
        (lambda: sg.constant([[1], [2, 3]]), "cannot be made an array"),
        (lambda: sg.constant(None), "array of numbers: NoneType None"),
        (lambda: sg.constant("a"), "<U1 is not supported"),
        (lambda: sg.tensor("x", (2,), [1]), r"\[1\] is not a dtype"),
        (lambda: sg.tensor("x", (2,), "float33"), "'float33' is not a dtype"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(make: object, text: str) -> None:
    with pytest.raises(DTypeError, match=text):
        make()  # type: ignore[operator]


def test_infinities_and_nan_fit_into_every_float() -> None:
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        for number in (float("inf"), float("-inf"), float("nan")):
            found = sg.constant(number, dtype).eval()
            np.testing.assert_array_equal(np.float64(found), number)


def test_the_python_float_follows_the_setting_at_every_call() -> None:
    for name in ("float64", "float32"):
        with sg.config(float_dtype=name):
            assert sg.tensor("x", (2,), float).dtype == name
