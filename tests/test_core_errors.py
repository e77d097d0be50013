"""Errors of the core that no other file raises: each by its message, and by the user's line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    GradError,
    GraphError,
    GuardError,
    InputError,
    PassError,
    ShapeError,
    SymgraphError,
    UnknownNameError,
)
from symgraph.graph import index, scalar
from symgraph.graph.arguments import distinct_axes, normal_axis, plain_int, shape_argument
from symgraph.graph.dsl import NUMPY_NAMES
from symgraph.graph.graph import Graph, collect_effects
from symgraph.graph.leaves import Attach, common
from symgraph.graph.node import make
from symgraph.graph.op import OPS, Op, op
from symgraph.graph.registry import function_of
from symgraph.graph.types import tensor_type

Make = Callable[[], Any]
THIS = "test_core_errors.py:"


def _x() -> sg.Value:
    return sg.tensor("x", (2, 3))


def _float64() -> sg.Value:
    return sg.tensor("x", (2,), "float64")


# -- declarations and literals --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_it", "error", "text"),
    [
        (lambda: sg.tensor("x", 3), ArgumentTypeError, "must be a tuple of sizes, got 3"),
        (lambda: sg.tensor("x", (2.0,)), ShapeError, "2.0 in .* is not a size"),
        (lambda: sg.tensor("x", (-1,)), ShapeError, "-1 in .* is negative"),
        (lambda: sg.tensor(3, (2,)), ArgumentTypeError, "tensor: the name must be a string"),
        (lambda: sg.shared(1.0, 3), ArgumentTypeError, "shared: the name must be a string"),
        (lambda: sg.shared(_x()), ArgumentTypeError, "shared: `.*` is symbolic, numbers"),
        (lambda: tensor_type("float32", [True]), ShapeError, "True in .* is not a size"),
        (lambda: common("add"), ArgumentTypeError, "add: needs at least one operand"),
        (lambda: normal_axis("sum", 3, 2), ArgumentError, "axis 3 does not exist: .* 2 axes"),
        (lambda: distinct_axes("sum", (0, -2), 2), ArgumentError, "an axis is named twice"),
        (lambda: plain_int("sum", "axis", _x()), ArgumentTypeError, "axis must be an int"),
        (lambda: shape_argument("reshape", (2, -3)), ShapeError, "-3 in .* is negative"),
        (
            lambda: shape_argument("reshape", (-1, -1), unknown=True),
            ShapeError,
            "has more than one -1",
        ),
    ],
)
def test_declarations(make_it: Make, error: type[SymgraphError], text: str) -> None:
    with pytest.raises(error, match=text):
        make_it()


# -- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_it", "text"),
    [
        (lambda x: sg.grad(x.sum(), None), "grad: wrt must be .* got NoneType"),
        (lambda x: sg.grad(x.sum(), [x, 1]), "grad: wrt must be .* got int 1"),
        (lambda x: sg.vjp(None, x, x), "vjp: outputs must be .* got NoneType"),
        (lambda x: sg.vjp(x, 3, x), "vjp: inputs must be .* got int 3"),
    ],
)
def test_gradients_need_values(make_it: Callable[[sg.Value], Any], text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=text) as caught:
        make_it(_x())
    assert THIS in str(caught.value)


def test_a_literal_has_a_gradient_too() -> None:
    x = sg.vector("x", "float64")
    factors, exponent = sg.constant([2.0, 5.0], "float64"), sg.constant(3.0, "float64")
    assert sg.grad((x * factors).sum(), factors).eval(x=[3, 4]).tolist() == [3, 4]
    slope = float(sg.grad((x**exponent).sum(), exponent).eval(x=[2.0, 3.0]))
    assert slope == pytest.approx(8 * np.log(2) + 27 * np.log(3))


def test_what_nobody_differentiates_by_is_not_built() -> None:
    x = sg.vector("x", "float64")
    names = {node.op.name for node in Graph([x], [sg.grad((x**2).sum(), x)]).values}
    assert "log" not in names


def test_a_cotangent_of_unknown_size_is_held_to_the_size_of_its_output() -> None:
    x = sg.tensor("x", (sg.dim("B"),), "float64")
    g = sg.tensor("g", (sg.dim("C"),), "float64")
    f = sg.function([x, g], sg.vjp(x * 2, x, g))
    assert f(np.ones(3), np.ones(3)).tolist() == [2, 2, 2]
    with pytest.raises(GuardError, match="C == B"):
        f(np.ones(3), np.ones(5))


# -- functions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_it", "error", "text"),
    [
        (lambda x: sg.function(3, x), ArgumentTypeError, "inputs must be a list .* got int"),
        (lambda x: sg.function(["x"], x), ArgumentTypeError, "symbolic values, got str"),
        (lambda x: sg.function([x], None, 3), ArgumentTypeError, "updates must be .* holds 3"),
        (lambda x: sg.function([x], None, [(1, 2, 3)]), ArgumentTypeError, "list of pairs"),
        (lambda x: sg.function([x], x, givens=[1]), ArgumentTypeError, "givens must be"),
        (lambda x: sg.function([x], x, givens={1: x}), ArgumentTypeError, "replaces values"),
        (lambda x: sg.function([x], x, givens={x: x[:1]}), ShapeError, "must keep the shape"),
        (lambda x: sg.function([x], x, passes=[3]), ArgumentTypeError, "3 is neither a pass nor"),
        (lambda x: sg.function([x], "x"), ArgumentTypeError, "operand: str"),
        (lambda x: sg.function([x], [[x, x]]), ArgumentTypeError, "sg.stack joins values"),
        (lambda x: x.eval(3), ArgumentError, "feeds must be a mapping .* got int"),
        (lambda x: x.eval({x: X}, x=X), InputError, "is given `x` twice"),
        (lambda x: x.eval(y=X), InputError, "does not depend on an input 'y'"),
        (lambda x: sg.zeros((B,)).eval({B: 2.5}), ArgumentTypeError, "size B must be an int"),
        (lambda x: sg.interpret([x], {}), GraphError, "no array for the input `x`"),
    ],
)
def test_functions(
    make_it: Callable[[sg.Value], Any], error: type[SymgraphError], text: str
) -> None:
    x = sg.tensor("x", (2, 3))
    with pytest.raises(error, match=text):
        make_it(x)


X = np.ones((2, 3), np.float32)
B = sg.dim("B")


def test_two_passes_of_one_name_are_refused() -> None:
    @sg.graph_pass(stage="clean", default=False)
    def dead_code(graph: Graph) -> dict[sg.Value, sg.Value]:
        return {}

    x = _x()
    with pytest.raises(PassError, match="two are called `dead_code`"):
        sg.function([x], x, passes=[dead_code])


def test_two_inputs_of_one_name_cannot_go_by_name() -> None:
    one, two = sg.scalar("x"), sg.scalar("x")
    with pytest.raises(InputError, match="several inputs are called so"):
        (one - two).eval(x=1.0)
    assert (one - two).eval({one: 3.0, two: 1.0}) == 2


def test_givens_hold_the_replacement_to_the_sizes_of_what_it_replaces() -> None:
    """The mean divides by the size of `x`: another size would give another mean in silence."""
    x, z = sg.tensor("x", (sg.dim("B"),)), sg.tensor("z", (sg.dim("B"),))
    y = sg.tensor("y", (sg.dim("C"),))
    alone = sg.function([y], x.mean(), givens={x: y})
    assert alone(np.arange(4, dtype=np.float32)) == 1.5
    beside = sg.function([y, z], [x.mean(), z.sum()], givens={x: y})
    with pytest.raises(GuardError, match="needs C == B, but 4 != 2") as caught:
        beside(np.ones(4, np.float32), np.ones(2, np.float32))
    assert "y : float32[C]   given shape (4,)" in str(caught.value)


def test_a_folded_constant_without_elements_may_still_need_a_size() -> None:
    x = sg.tensor("x", (sg.dim("A", min=0), sg.dim("A", min=0)))
    f = sg.function([x], sg.grad((x[:0] * 2).sum(), x))
    assert f(np.ones((2, 2), np.float32)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([1e300, 0.0], "`x` is float32, it was given 1e[+]300, which does not fit"),
        ([10**400, 0], "`x` is float32, it was given 1000"),
        ([None, 1.0], "`x` cannot be made an array of numbers: list"),
        (None, "`x` cannot be made an array of numbers: NoneType"),
        (np.array([1, 2], object), "`x` is float32, it was given object"),
    ],
)
def test_feeds_that_are_no_numbers_of_the_dtype(given: Any, text: str) -> None:
    x = sg.vector("x")
    with pytest.raises(InputError, match=text) as caught:
        sg.function([x], x)(given)
    assert THIS in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "new", "error", "text"),
    [
        ("int32", [1.5, 2], DTypeError, "`w` is int32, it was given float64"),
        ("int32", [2**40, 0], DTypeError, "`w` is int32, it was given 1099511627776"),
        ("uint8", [300, 0], DTypeError, r"it was given 300, which does not fit \(0 to 255\)"),
        ("bool", [1, 0], DTypeError, "`w` is bool, it was given int64"),
        ("float32", [[1], [2, 3]], DTypeError, "`w` cannot be made an array"),
        ("float32", [1.0], ShapeError, r"the new value is float32\[1\]"),
    ],
)
def test_assigning_to_a_shared_variable(
    dtype: str, new: Any, error: type[SymgraphError], text: str
) -> None:
    w = sg.shared(np.zeros(2, dtype), "w")
    with pytest.raises(error, match=text) as caught:
        w.value = new
    assert THIS in str(caught.value)
    assert not w.value.any()


def test_a_shared_variable_takes_what_loses_nothing() -> None:
    w = sg.shared(np.zeros(2, np.float32), "w")
    for new in ([1, 2], np.array([1, 2], np.uint8), np.array([1, 2], ">f4"), range(1, 3)):
        w.value = new
        assert w.value.tolist() == [1, 2]
        assert w.value.dtype == np.float32


# -- graphs and rewrites --------------------------------------------------------------------------


def test_a_graph_that_a_pass_broke_does_not_verify() -> None:
    x = _x()
    with pytest.raises(PassError, match="`x` is needed but is not an input"):
        Graph([], [sg.exp(x)]).verify()
    cyclic = Graph([x], [sg.exp(x)])
    cyclic.add_edge(sg.exp(x).node, x.node, 0)
    with pytest.raises(PassError, match="there is a cycle"):
        cyclic.verify()


def test_a_replacement_must_be_a_value_of_the_same_sizes() -> None:
    x, y = sg.vector("x"), sg.vector("x")
    value = sg.exp(x)
    graph = Graph([x, y], [value])
    with pytest.raises(PassError, match="is no value: 3"):
        graph.rewrite({value: 3}, "wrong")  # type: ignore[dict-item]
    # both print as float32[x.shape[0]], and are of two sizes
    with pytest.raises(PassError, match="a pass must keep types"):
        graph.rewrite({value: sg.exp(y)}, "wrong")


def test_attached_updates_are_of_shared_variables() -> None:
    x = _x()
    with pytest.raises(GraphError, match="`x` is not a shared variable"):
        collect_effects([make(Attach((x,)), x, x)])


def test_replacements_built_on_each_other_take_linear_time() -> None:
    x = sg.scalar("x")
    values = [x]
    for _ in range(3000):
        values.append(sg.sin(values[-1]))
    replace, new = {}, x
    for value in values[1:]:
        new = sg.tanh(new)
        replace[value] = new
    visits = _count_calls(lambda: Graph([x], [values[-1]]).rewrite(replace, "each"))
    assert visits < 60 * len(values)


def _count_calls(task: Make) -> int:
    """Count function calls: a measure of work that other programs do not disturb."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        task()
    finally:
        sys.setprofile(None)
    return count


# -- operations, bodies, index expressions --------------------------------------------------------


def test_an_operation_without_rules_says_which_is_missing() -> None:
    class Bare(Op):
        name = "bare"

        def infer(self, *types: Any) -> Any:
            return types[0]

    x = _x()
    value = make(Bare(), x)
    with pytest.raises(PassError, match="bare: the operation has no `ref`"):
        value.eval(x=X)
    with pytest.raises(GradError, match="bare: the operation has no gradient"):
        sg.grad(value.sum(), x)
    with pytest.raises(PassError, match="bare: the operation has no `expand`"):
        value.op.expand(sg.F, x)
    with pytest.raises(PassError, match="op: the operation has no `infer`"):
        make(Op(), x)


def test_a_gradient_rule_must_serve_every_operand() -> None:
    class Short(Op):
        name = "short"

        def infer(self, *types: Any) -> Any:
            return types[0]

        def ref(self, xp: ModuleType, *arrays: Any) -> Any:
            return arrays[0]

        def vjp(self, F: Any, g: Any, y: Any, *xs: Any) -> Any:
            return (g,)

    x = _x()
    with pytest.raises(PassError, match="gives 1 cotangents for 2 operands"):
        sg.grad(make(Short(), x, x + 1).sum(), x)


def test_names_are_registered_once() -> None:
    class Exp(Op):
        pass

    with pytest.raises(PassError, match="the operation `exp` is registered twice"):
        op(Exp)
    assert OPS["exp"] is not Exp

    def exp(x: Any) -> Any:
        return x

    with pytest.raises(UnknownNameError, match="the function `exp` is registered twice"):
        function_of(exp)


def test_a_node_with_several_results_is_no_operand() -> None:
    whole = sg.topk(sg.vector("x"), 2)[0].inputs[0]
    with pytest.raises(GraphError, match="`topk` has several results"):
        whole + 1


def _operand(dtype: str) -> scalar.Scalar:
    return scalar.operands_of([dtype])[0]


@pytest.mark.parametrize(
    ("make_it", "error", "text"),
    [
        (lambda a, b: bool(a), ArgumentTypeError, "a traced scalar has no truth value"),
        (lambda a, b: a + "1", ArgumentTypeError, "str is no scalar"),
        (lambda a, b: a + b, DTypeError, "add of float32, float64: cast first"),
        (lambda a, b: index.m.bessel(a), UnknownNameError, "no scalar operation `bessel`"),
        (lambda a, b: index.m.bitcast(a, "int64"), DTypeError, "the widths differ"),
        (lambda a, b: index.m.philox(a, b), DTypeError, "takes 6 uint32 words"),
        (lambda a, b: scalar.NumpyMath(np).bessel(1), UnknownNameError, "operation `bessel`"),
        (lambda a, b: index.reduce(index.ARGMAX, (), a), PassError, "takes 2 values, got 1"),
        (
            lambda a, b: index.evaluate(index.Compute((), a), [], {}),
            PassError,
            "`operand` has no meaning in an index expression",
        ),
    ],
)
def test_bodies(make_it: Callable[..., Any], error: type[SymgraphError], text: str) -> None:
    with pytest.raises(error, match=text):
        make_it(_operand("float32"), _operand("float64"))


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("concatenate", "NumPy's `concatenate` is `concat`, as in the array API"),
        ("grads", "is `grad` meant?"),
        ("fori_loop", "sg.scan"),
        ("zzzzzz", r"see dir\(symgraph\)"),
    ],
)
def test_an_unknown_member_tells_what_may_be_meant(name: str, fix: str) -> None:
    with pytest.raises(UnknownNameError, match=f"no member `{name}`.\n  fix: {fix}"):
        getattr(sg, name)
    assert not hasattr(sg, name)


def test_a_value_as_a_size_tells_how_to_make_one_of_it() -> None:
    with pytest.raises(ArgumentTypeError, match=r"a size, got the value[\s\S]*sg\.as_size"):
        sg.vector("x").reshape(sg.iscalar("n"), -1)


def test_names_of_numpy_lead_to_functions_that_exist() -> None:
    assert all(hasattr(sg, own) for own in NUMPY_NAMES.values())
