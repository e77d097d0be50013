"""Affine forms of integer scalars: a sum of atoms with sizes as coefficients.

Addresses, guards and positions are written with `+ - * // %` over axes. In affine form equal
addresses are equal, `(i*n + j) // n` is `i` where 0 <= j < n, and one reads off which axis runs
over neighbours in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from symgraph.dims import Dim, Size, divides, less
from symgraph.frozen import frozen
from symgraph.graph.index import Axis, m, position
from symgraph.graph.scalar import Scalar, const, scalar, scalar_order

AFFINE = ("add", "sub", "neg", "mul", "idiv", "imod")


@frozen
class Linear:
    """`constant + sum of coefficient * atom`; atoms are int64 scalars that are not sums."""

    terms: dict[Scalar, Size]
    constant: Size = 0

    def __add__(self, other: Linear) -> Linear:
        terms = dict(self.terms)
        for atom, factor in other.terms.items():
            total = terms.get(atom, 0) + factor
            if isinstance(total, int) and total == 0:
                terms.pop(atom, None)
            else:
                terms[atom] = total
        return _rejoined(Linear(terms, self.constant + other.constant))

    def times(self, factor: Size) -> Linear:
        """Give this form multiplied by a size."""
        if isinstance(factor, int) and factor == 0:
            return Linear({}, 0)
        return Linear({a: c * factor for a, c in self.terms.items()}, self.constant * factor)

    def coefficient(self, axis: Axis) -> Size | None:
        """Give how far one step along an axis goes; None where that is no constant."""
        own = axis.scalar()
        for atom in self.terms:
            if atom.op != "axis" and any(node is own for node in scalar_order([atom])):
                return None
        return self.terms.get(own, 0)

    def neighbours(self, axis: Axis) -> bool:
        """Tell whether steps along an axis are steps of one element."""
        step = self.coefficient(axis)
        return isinstance(step, int) and step == 1

    def without(self, axis: Axis) -> Linear:
        """Give this form at position 0 of an axis of known coefficient."""
        own = axis.scalar()
        return Linear({a: c for a, c in self.terms.items() if a is not own}, self.constant)

    def scalar(self) -> Scalar:
        """Give the form as an int64 scalar; equal forms give one object."""
        constant = _wrapped(self.constant)
        parts = [m.mul(atom, position(_wrapped(factor))) if not _one(factor) else atom
                 for atom, factor in self.terms.items()]  # fmt: skip
        if not parts or not (isinstance(constant, int) and constant == 0):
            parts.append(position(constant))
        total = parts[0]
        for part in parts[1:]:
            total = m.add(total, part)
        return total

    def key(self) -> tuple[frozenset[tuple[Scalar, Size]], Size]:
        """Give what two equal forms share."""
        return frozenset(self.terms.items()), self.constant


def _wrapped(size: Size) -> Size:
    """Give a number as int64 holds it."""
    return (size + (1 << 63)) % (1 << 64) - (1 << 63) if isinstance(size, int) else size


def _one(factor: Size) -> bool:
    return isinstance(factor, int) and factor == 1


def linear(value: Scalar) -> Linear:
    """Give the affine form of an int64 scalar."""
    known: dict[Scalar, Linear] = {}
    stack = [(value, False)]
    while stack:
        node, entered = stack.pop()
        if node in known:
            continue
        # what stands below another operation is that one's business, however much it is
        inside = node.args if node.op in AFFINE else ()
        if entered or not inside:
            known[node] = _form(node, [known[argument] for argument in inside])
        else:
            stack.append((node, True))
            stack.extend((argument, False) for argument in reversed(inside))
    return known[value]


def _form(node: Scalar, forms: list[Linear]) -> Linear:
    if node.op == "const":
        return Linear({}, int(node.attr))
    if node.op == "size":
        return Linear({}, node.attr)
    if node.op not in AFFINE:
        return Linear({node: 1})
    if node.op == "neg":
        return forms[0].times(-1)
    first, second = forms
    if node.op == "add":
        return first + second
    if node.op == "sub":
        return first + second.times(-1)
    if node.op == "mul":
        return _product(node, first, second)
    return _divided(node, first, second)


def _product(node: Scalar, first: Linear, second: Linear) -> Linear:
    if not second.terms:
        return first.times(second.constant)
    if not first.terms:
        return second.times(first.constant)
    return Linear({node: 1})


def _divided(node: Scalar, over: Linear, by: Linear) -> Linear:
    """Split into what the divisor divides and a rest; done where 0 <= rest < divisor."""
    n = by.constant
    if by.terms or less(0, n) is not True:
        return Linear({node: 1})
    twice = _divided_twice(node, over, n)
    if twice is not None:
        return twice
    if any(_top(atom) is None for atom in over.terms):  # numbers of users, which may wrap around
        return Linear({node: 1})
    whole = {a: c for a, c in over.terms.items() if divides(n, c) is True}
    rest = Linear({a: c for a, c in over.terms.items() if a not in whole}, over.constant)
    exact = Linear({a: c // n for a, c in whole.items()})
    if isinstance(n, int) and isinstance(rest.constant, int):
        q, r = divmod(rest.constant, n)
        exact, rest = Linear(exact.terms, q), Linear(rest.terms, r)
    elif divides(n, rest.constant) is True:
        exact, rest = Linear(exact.terms, rest.constant // n), Linear(rest.terms, 0)
    high = highest(rest)
    if high is not None and less(high, n) is True:
        return exact if node.op == "idiv" else rest
    atom = scalar(node.op, (rest.scalar(), position(n)), "int64")
    if node.op == "imod":
        return Linear({atom: 1})
    return exact + Linear({atom: 1})


def _divided_twice(node: Scalar, over: Linear, n: Size) -> Linear | None:
    """Write `(e // a) // n` as `e // (a * n)`."""
    if node.op != "idiv" or len(over.terms) != 1 or not _one(_only(over)):
        return None
    (atom,) = over.terms
    if atom.op != "idiv" or atom.args[1].op not in ("const", "size"):
        return None
    if not (isinstance(over.constant, int) and over.constant == 0):
        return None
    a: Size = atom.args[1].attr
    if less(0, a) is not True:
        return None
    return linear(scalar("idiv", (atom.args[0], position(a * n)), "int64"))


def _only(form: Linear) -> Size:
    return next(iter(form.terms.values()))


def highest(form: Linear) -> Size | None:
    """Give the largest value of a form that is never negative, None where that is not known."""
    if less(form.constant, 0) is not False:
        return None
    total = form.constant
    for atom, factor in form.terms.items():
        top = _top(atom)
        if top is None or less(factor, 0) is not False:
            return None
        total = total + factor * top
    return total


def _top(atom: Scalar) -> Size | None:
    if atom.op == "axis":
        extent: Size = atom.attr.extent
        return extent - 1
    if atom.op == "idiv" and atom.args[1].op in ("const", "size"):
        return highest(linear(atom.args[0]))
    if atom.op == "imod" and atom.args[1].op in ("const", "size"):
        n: Size = atom.args[1].attr
        return n - 1 if less(0, n) is True else None
    return None


def _rejoined(form: Linear) -> Linear:
    """Put `n*(e // n) + e % n` together to `e`."""
    for atom, share in form.terms.items():
        if atom.op != "imod" or atom.args[1].op not in ("const", "size"):
            continue
        quotient = linear(scalar("idiv", atom.args, "int64"))
        if len(quotient.terms) != 1:
            continue
        (other,) = quotient.terms
        n: Size = atom.args[1].attr
        if other in form.terms and _same(form.terms[other], share * n * quotient.terms[other]):
            terms = {a: c for a, c in form.terms.items() if a is not atom and a is not other}
            whole = (
                linear(atom.args[0])
                + quotient.times(-n)
                + Linear({other: 1}).times(n * quotient.terms[other])
            )
            return Linear(terms, form.constant) + whole.times(share)
    return form


def _same(first: Size, second: Size) -> bool:
    return first is second or (not isinstance(first, Dim) and first == second)


def substitute(
    roots: Iterable[Scalar], change: Callable[[Scalar, tuple[Scalar, ...]], Scalar | None]
) -> dict[Scalar, Scalar]:
    """Rebuild scalars bottom-up; `change(node, new arguments)` gives another node or None."""
    done: dict[Scalar, Scalar] = {}
    for node in scalar_order(roots):
        args = tuple(done[argument] for argument in node.args)
        found = change(node, args)
        if found is None:
            same = all(a is b for a, b in zip(args, node.args))
            found = node if same else scalar(node.op, args, node.dtype, node.attr)
        done[node] = found
    return done


def replaced(roots: Iterable[Scalar], new: dict[Scalar, Scalar]) -> dict[Scalar, Scalar]:
    """Rebuild scalars with some nodes replaced."""
    return substitute(roots, lambda node, args: new.get(node))


ZERO = const(0, "int64")
