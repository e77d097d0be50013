"""Values that equations define: `root` and `minimize`, found by a loop, with implicit gradients.

Where f(x, a) = 0 and J = df/dx, the gradient needs no derivative of the loop: dx/da = -J^-1 df/da.
With up to `SMALL` unknowns J is a matrix, and `linalg.solve` (for minima, whose J may be singular,
`linalg.pinv`) solves the linear systems. With more, or a symbolic number, they are solved by
conjugate gradients on the normal equations, from products with J and its transpose alone (Hestenes
and Stiefel, 1952, section 10), to a relative residual of `SOLVED[dtype]` or in at most 2 n + 10
steps: that is for well-conditioned J.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symgraph.autodiff.call import operands_of, with_operands
from symgraph.autodiff.custom import CustomVjp
from symgraph.autodiff.forward import jvp
from symgraph.autodiff.reverse import check_float
from symgraph.autodiff.template import filled
from symgraph.dims import Size, equal
from symgraph.errors import ArgumentError, ArgumentTypeError, GradError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.body import Body, closed, like
from symgraph.graph.dtypes import is_float
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F, function_of
from symgraph.graph.types import TensorType

SMALL = 256  # unknowns up to which the derivative of equations is written down as a matrix

Residual = Callable[..., Value]  # (x, *operands) -> a value of the type of x
Solver = Callable[[Callable[[Value], Value], Value], Any]

# by default an equation holds where no element is further from 0
TOLERANCE = {"float64": 1e-10, "float32": 1e-5, "float16": 1e-2, "bfloat16": 1e-1}
# relative residual at which a linear system counts as solved
SOLVED = {"float64": 1e-13, "float32": 1e-7, "float16": 1e-3, "bfloat16": 1e-2}


@function_of
def root(
    f: Callable[..., Any],
    x0: Any,
    *args: Any,
    solver: Solver | None = None,
    tolerance: float | None = None,
    max_steps: int = 50,
) -> Value:
    """Find x with f(x, *args) = 0, starting from x0, and differentiate it by the arguments.

    Newton's method, until no element of f is above `tolerance` (1e-10 in float64, 1e-5 in float32),
    or for `max_steps`, after which x is what it is; where f is NaN so is x. Or `solver(g, x0)`
    gives x, where g(x) is f(x, *args). Gradients, of any order, are those of the
    exact solution, by the implicit function theorem; values that f reads from outside have them
    too, x0 has none. Where the derivative of f by x is singular, both are NaN or infinite. Raises
    `ShapeError` unless f gives a value of the type of x0.

    >>> import symgraph as sg
    >>> a = sg.tensor("a", (), "float64")
    >>> x = sg.root(lambda x, a: x * x - a, sg.constant(1.0, "float64"), a)
    >>> f = sg.function([a], [x, sg.grad(x, a)])
    >>> [round(float(y), 6) for y in f(4.0)]
    [2.0, 0.25]
    """
    most = _steps("root", max_steps)
    start, body, operands = _traced("root", f, x0, args, lambda found, x: found)
    limit = _tolerance("root", tolerance, start)

    def solve(x: Value, *given: Value) -> Value:
        def residual(x: Value) -> Value:
            return body.inlined([x, *given])[0]

        if solver is not None:
            return _checked_solution("root", solver(residual, x), x)
        return _newton(residual, x, limit, most)

    return _implicit(solve, body, start, operands)


@function_of
def minimize(
    f: Callable[..., Any],
    x0: Any,
    *args: Any,
    solver: Solver | None = None,
    tolerance: float | None = None,
    max_steps: int = 1000,
    rate: float = 0.1,
) -> Value:
    """Find x where the scalar f(x, *args) is least, starting from x0; differentiable as `root` is.

    Gradient descent, until no element of the gradient is above `tolerance` (1e-10 in float64, 1e-5
    in float32), or for `max_steps`. In the first step no element moves further than `rate`, later
    ones fit the curvature last seen (Barzilai and Borwein, 1988); or `solver(g, x0)` gives x, where
    g(x) is f(x, *args). Along directions in which f is flat the derivative is 0. Raises `GradError`
    unless f gives a scalar.

    >>> import symgraph as sg
    >>> a = sg.tensor("a", (2,), "float64")
    >>> x = sg.minimize(lambda x, a: ((x - a) ** 2).sum(), sg.zeros(2, "float64"), a)
    >>> sg.function([a], sg.jacobian(x, a))([1.0, 3.0]).round(6).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    most = _steps("minimize", max_steps)
    start, body, operands = _traced("minimize", f, x0, args, F.grad)
    limit = _tolerance("minimize", tolerance, start)
    _not_negative("minimize", "rate", rate)

    def solve(x: Value, *given: Value) -> Value:
        if solver is not None:
            inner = with_operands(args, given[: len(operands_of(args))])
            return _checked_solution("minimize", solver(lambda x: f(x, *inner), x), x)
        return _descent(lambda x: body.inlined([x, *given])[0], x, limit, most, float(rate))

    return _implicit(solve, body, start, operands, flat=True)


def _traced(
    name: str,
    f: Callable[..., Any],
    x0: Any,
    args: Sequence[Any],
    equation: Callable[[Value, Value], Any],
) -> tuple[Value, Body, list[Value]]:
    """Give the start, the equation as a graph of x and operands, and these operands."""
    if not callable(f) or isinstance(f, Value):
        raise ArgumentTypeError(f"{name}: takes a function, got {type(f).__name__}.")
    start = as_value(x0)
    check_float(name, start)
    if not is_float(start.dtype):
        raise GradError(
            f"{name}: unknowns are real, `{start.label}` is {start.type}.",
            details=operand_lines([start]),
            fix="take real and imaginary parts as unknowns of their own",
        )
    given = operands_of(args)
    x, *own = (like(value.tensor, value.label) for value in (start, *given))
    found = equation(f(x, *with_operands(tuple(args), own)), x)
    if not isinstance(found, Value) or not _alike(found, start):
        kind = found.type if isinstance(found, Value) else type(found).__name__
        raise ShapeError(
            f"{name}: the function must give a value of the type of x0, {start.type}; it gives "
            f"{kind}.",
            details=operand_lines([start]),
            fix="as many equations as unknowns",
        )
    body, captured, _ = closed(name, [x, *own], [F.specify_shape(found, start.shape)])
    return start, body, [*given, *captured]


def _alike(one: Value, other: Value) -> bool:
    return (
        one.dtype == other.dtype
        and one.ndim == other.ndim
        and all(equal(a, b) is not False for a, b in zip(one.shape, other.shape))
    )


def _checked_solution(name: str, found: Any, x: Value) -> Value:
    value = as_value(found, x.dtype)
    if not _alike(value, x):
        raise ShapeError(
            f"{name}: the solver must give a value of the type of x0, {x.type}; it gives "
            f"{value.type}.",
            details=operand_lines([x, value]),
        )
    return F.specify_shape(value, x.shape)


def _steps(name: str, value: Any) -> int:
    number = plain_int(name, "max_steps", value)
    if number < 1:
        raise ArgumentError(f"{name}: max_steps must be >= 1, got {number}.", fix="max_steps=50")
    return number


def _not_negative(name: str, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ArgumentTypeError(f"{name}: {what} must be a number, got {type(value).__name__}.")
    if not 0 <= value < math.inf:
        raise ArgumentError(f"{name}: {what} must be >= 0 and finite, got {value}.")
    return float(value)


def _tolerance(name: str, given: float | None, x: Value) -> float:
    return TOLERANCE[x.dtype] if given is None else _not_negative(name, "tolerance", given)


# -- the implicit function theorem -----------------------------------------------------------------


def _implicit(
    solve: Callable[..., Value], body: Body, start: Value, operands: Sequence[Value],
    flat: bool = False,
) -> Value:  # fmt: skip
    """Give the solution as a call whose gradient comes from its equation."""

    def residual(x: Value, *given: Value) -> Value:
        return body.inlined([x, *given])[0]

    def pulled(x: Value, weights: Value, *given: Value) -> list[Value | None]:
        return _pulled(residual(x, *given), given, weights)

    def backward(residuals: Any, g: Value) -> Any:
        x, given = residuals
        weights = linear_solve(residual, x, given, g, transposed=True, flat=flat)
        return (None, *_apart(pulled, x, -weights, *given))

    solution = CustomVjp(solve)

    def forward(x: Value, *given: Value) -> Any:
        found: Value = solution(x, *given)
        return found, (found, given)

    solution.defvjp(forward, backward)
    result: Value = solution(start, *operands)
    return result


def linear_solve(
    residual: Residual, x: Value, operands: Sequence[Value], b: Value,
    transposed: bool = False, flat: bool = False,
) -> Value:  # fmt: skip
    """Solve J d = b, or with the transpose of J, where J is the derivative of a residual by x.

    Differentiable by x, the operands and b. If J may be singular (`flat`), d is the shortest one.
    """

    def product(turned: bool) -> Callable[..., list[Value | None]]:
        def build(v: Value, x: Value, *given: Value) -> list[Value | None]:
            return [_product(residual(x, *given), x, v, turned)]

        return build

    def solve(b: Value, x: Value, *given: Value) -> Value:
        if _is_small(x):
            return _dense(lambda x: residual(x, *given), x, b, transposed, flat)
        return _conjugate_gradients(
            lambda v: _apart(product(transposed), v, x, *given)[0],
            lambda v: _apart(product(not transposed), v, x, *given)[0],
            b,
        )

    def pulled(d: Value, weights: Value, x: Value, *given: Value) -> list[Value | None]:
        applied = _product(residual(x, *given), x, d, transposed)
        return _pulled(applied, [x, *given], -weights)

    def backward(residuals: Any, g: Value) -> Any:
        d, x, given = residuals
        weights = linear_solve(residual, x, given, g, not transposed, flat)
        return (weights, *_apart(pulled, d, weights, x, *given))

    solution = CustomVjp(solve)

    def forward(b: Value, x: Value, *given: Value) -> Any:
        found: Value = solution(b, x, *given)
        return found, (found, x, given)

    solution.defvjp(forward, backward)
    result: Value = solution(b, x, *operands)
    return result


def _product(y: Value, x: Value, v: Value, transposed: bool) -> Value:
    """Multiply the derivative of y by x, or its transpose, with v."""
    found: Value = F.vjp(y, x, v, missing="zero") if transposed else jvp(y, x, v, missing="zero")
    return found


def _apart(build: Callable[..., list[Value | None]], *values: Value) -> list[Any]:
    """Build on placeholders and put values in: what they are made of is not differentiated."""
    own = [like(value.tensor) for value in values]
    found = build(*own)
    real = [one for one in found if one is not None]
    put = iter(filled(real, dict(zip(own, values))))
    return [None if one is None else next(put) for one in found]


def _pulled(y: Value, wrt: Sequence[Value], cotangent: Value) -> list[Value | None]:
    floats = [value for value in wrt if is_float(value.dtype)]
    found: Any = F.vjp(y, floats, cotangent, missing="zero") if floats else []
    rest = iter(found)
    return [next(rest) if is_float(value.dtype) else None for value in wrt]


# -- loops -----------------------------------------------------------------------------------------


def _until(
    states: Sequence[Value],
    step: Callable[..., tuple[Value, Sequence[Value]]],
    most: Size,
    going: Value,
) -> tuple[Value, ...]:
    """Run `step(*states)` -> (whether to go on, new states) while it says so, `most` times."""
    own = [like(state.tensor) for state in states]
    runs = like(TensorType("bool", ()))
    more, new = step(*own)
    fit = [F.specify_shape(one, state.shape) for one, state in zip(new, own)]
    body, others, _ = closed("loop", [runs, *own], [more, *fit])
    found: Any = F.loop(body, [], [going, *states], others, most, conditional=True)
    return tuple(found[1:])


def _largest(x: Value) -> Value:
    """Give the largest magnitude; 0 where there is none."""
    flat = F.concat([F.reshape(F.abs(x), (x.size,)), F.zeros((1,), x.dtype)])
    return F.max(flat)


def _unsolved(x: Value, limit: float) -> Value:
    """Tell whether to begin: from what is no number too, so that it is passed on."""
    return F.logical_not(F.less_equal(x, limit))


def _newton(residual: Callable[[Value], Value], x: Value, limit: float, most: int) -> Value:
    def step(x: Value, now: Value) -> tuple[Value, Sequence[Value]]:
        def pushed(v: Value) -> Value:
            return _apart(lambda x, v: [_product(residual(x), x, v, False)], x, v)[0]  # type: ignore[no-any-return]

        def pulled(v: Value) -> Value:
            return _apart(lambda x, v: [_product(residual(x), x, v, True)], x, v)[0]  # type: ignore[no-any-return]

        if _is_small(x):
            new = x - _dense(residual, x, now)
        else:
            new = x - _conjugate_gradients(pushed, pulled, now)
        after = residual(new)
        return F.greater(_largest(after), limit), [new, after]

    first = residual(x)
    found, _ = _until([x, first], step, most, _unsolved(_largest(first), limit))
    return found


def _descent(
    slope: Callable[[Value], Value], x: Value, limit: float, most: int, rate: float
) -> Value:
    def step(x: Value, g: Value, length: Value) -> tuple[Value, Sequence[Value]]:
        new = x - length * g
        after = slope(new)
        moved, turned = new - x, after - g
        curved = F.sum(turned * turned)
        fitting = F.abs(F.sum(moved * turned)) / curved
        return (
            F.greater(_largest(after), limit),
            [new, after, F.where(F.greater(curved, 0.0), fitting, length)],
        )

    first = slope(x)
    size = _largest(first)
    length = rate / F.maximum(size, 1.0)
    return _until([x, first, length], step, most, _unsolved(size, limit))[0]


def _is_small(x: Value) -> bool:
    """Whether the derivative of equations in x is a matrix worth writing down."""
    return isinstance(x.size, int) and x.size <= SMALL


def _dense(
    residual: Callable[[Value], Value], x: Value, b: Value,
    transposed: bool = False, flat: bool = False,
) -> Value:  # fmt: skip
    """Solve J d = b by the matrix J itself; the shortest d of the best ones if J may be `flat`."""
    (whole,) = _apart(lambda x: [F.jacobian(residual(x), x, missing="zero")], x)
    n = x.size
    if n == 1 and not flat:
        return b / F.reshape(whole, b.shape)
    matrix = F.reshape(whole, (n, n))
    if transposed:
        matrix = F.matrix_transpose(matrix)
    right = F.reshape(b, (n,))
    found = F.matmul(F.pinv(matrix), right) if flat else F.solve(matrix, right)
    return F.reshape(found, b.shape)


def _conjugate_gradients(
    push: Callable[[Value], Value], pull: Callable[[Value], Value], b: Value
) -> Value:
    """Solve J d = b: conjugate gradients for J^T J d = J^T b, which needs no J^T J."""
    limit = SOLVED[b.dtype] ** 2

    def step(
        d: Value, rest: Value, along: Value, square: Value, enough: Value
    ) -> tuple[Value, Sequence[Value]]:
        q = push(along)
        curved = F.sum(q * q)
        length = F.where(F.greater(curved, 0.0), square / curved, F.zeros_like(square))
        rest = rest - length * q
        s = pull(rest)
        new = F.sum(s * s)
        turned = s + F.where(F.greater(square, 0.0), new / square, F.zeros_like(square)) * along
        return F.greater(new, enough), [d + length * along, rest, turned, new, enough]

    s = pull(b)
    square = F.sum(s * s)
    enough = square * limit
    start = [F.zeros_like(b), b, s, square, enough]
    return _until(start, step, 2 * b.size + 10, F.greater(square, enough))[0]
