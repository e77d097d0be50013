"""Reverse mode: values, any order, cut and missing paths."""

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, GradError


def test_gradient_of_a_polynomial_to_order_four() -> None:
    x = sg.scalar("x", "float64")
    y = x**5 + 2 * x**3
    expected = [5 * 16 + 6 * 4, 20 * 8 + 12 * 2, 60 * 4 + 12, 120 * 2]
    for value in expected:
        y = sg.grad(y, x)
        assert float(y.eval(x=2.0)) == pytest.approx(value)


def test_shared_paths_add_up() -> None:
    x = sg.scalar("x", "float64")
    y = sg.exp(x)
    z = y * y + y
    assert float(sg.grad(z, x).eval(x=0.3)) == pytest.approx(2 * np.exp(0.6) + np.exp(0.3))


def test_one_value_or_a_list() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    assert isinstance(sg.grad(x * y, [x, y]), list)
    assert sg.grad(x * y, x) is not None


def test_with_respect_to_an_intermediate_value() -> None:
    x = sg.scalar("x", "float64")
    h = sg.exp(x)
    loss = h * h
    both = sg.grad(loss, [h, x])
    f = sg.function([x], both)
    assert [float(v) for v in f(0.5)] == pytest.approx([2 * np.exp(0.5), 2 * np.exp(1.0)])


def test_vjp_of_a_vector_is_the_transposed_product() -> None:
    a = np.arange(6.0).reshape(2, 3)
    x, g = sg.vector("x", "float64"), sg.vector("g", "float64")
    pulled = sg.vjp(sg.constant(a) @ x, x, g)
    assert (
        sg.function([x, g], pulled, name="f")(np.ones(3), np.array([1.0, 10.0])).tolist()
        == (a.T @ [1, 10]).tolist()
    )


def test_results_with_several_parts() -> None:
    x = sg.vector("x", "float64")
    values, _ = sg.topk(x, 2)
    gradient = sg.grad((values * sg.constant([1.0, 10.0], "float64")).sum(), x)
    assert gradient.eval(x=np.array([3.0, 9.0, 5.0])).tolist() == [0, 1, 10]


def test_a_missing_path_is_an_error_or_zero() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    loss = x.sum()
    with pytest.raises(GradError, match="`loss` does not depend on `y`"):
        sg.grad(loss, y)
    zero = sg.grad(loss, [x, y], missing="zero")[1]
    assert sg.function([x, y], zero)([1, 1], [1, 2, 3]).tolist() == [0, 0, 0]
    with pytest.raises(ArgumentError, match='"error" or "zero"'):
        sg.grad(loss, y, missing="none")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("cut", "name"),
    [
        (sg.stop_gradient, "stop_gradient"),
        (lambda x: (x > 0).cast("float32"), "cast"),
        (lambda x: sg.argmax(x, 0).cast("float32"), "cast"),
        (lambda x: x.cast("int32").cast("float32"), "cast"),
    ],
)
def test_a_cut_path_shows_where(cut: object, name: str) -> None:
    x = sg.vector("x")
    h = cut(x)  # type: ignore[operator]
    loss = (h * 2).sum()
    with pytest.raises(GradError) as caught:
        sg.grad(loss, x)
    text = str(caught.value)
    assert "every path is cut" in text
    assert f"cut at {name}" in text
    assert "test_reverse.py" in text


def test_one_open_path_is_enough() -> None:
    x = sg.scalar("x", "float64")
    assert float(sg.grad(sg.stop_gradient(x) * x, x).eval(x=3.0)) == 3


def test_flat_functions_have_zero_gradient_without_being_cut() -> None:
    x = sg.vector("x")
    assert sg.grad(sg.floor(x).sum(), x).eval({x: [1.5, 2.5]}).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: sg.grad(sg.vector("x"), sg.vector("x")), "must be a scalar"),
        (lambda: sg.grad(sg.scalar("n", "int32"), sg.scalar("x")), "only floats have gradients"),
        (lambda: sg.grad(sg.scalar("x"), sg.scalar("n", "int32")), "only floats have gradients"),
        (lambda: sg.grad(1.0, sg.scalar("x")), "must be a symbolic value"),  # type: ignore[call-overload]
    ],
)
def test_misuse(make: object, text: str) -> None:
    with pytest.raises(GradError, match=text):
        make()  # type: ignore[operator]


def test_vjp_checks_cotangents() -> None:
    x = sg.vector("x")
    with pytest.raises(GradError, match="cotangent of"):
        sg.vjp(x * 2, x, sg.matrix("g"))
    with pytest.raises(ArgumentError, match="1 outputs but 2 cotangents"):
        sg.vjp([x * 2], x, [x, x])


def test_broadcast_operands_get_their_own_shape() -> None:
    x = sg.tensor("x", (sg.dim("B"), 3), "float64")
    b, c = sg.tensor("b", (3,), "float64"), sg.tensor("c", (1, 3), "float64")
    gradients = sg.grad((x * b + c).sum(), [x, b, c])
    f = sg.function([x, b, c], gradients)
    a = np.arange(6.0).reshape(2, 3)
    found = f(a, np.array([1.0, 2, 3]), np.ones((1, 3)))
    assert found[0].tolist() == [[1, 2, 3]] * 2
    assert found[1].tolist() == a.sum(0).tolist()
    assert found[2].tolist() == [[2, 2, 2]]
