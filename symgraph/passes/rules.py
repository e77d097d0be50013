"""Rules: one expression in place of another, with what makes that right and what shows it.

A rule is a line in a table: a pattern, what comes in its place, how sound that is, and an example.
Its tests, its row in the documentation and its proof are made from the line.

    rule("log_softmax", P.log(P.softmax(x, axis=A)), P.log_softmax(x, axis=A), example=dict(A=1))

Soundness is one of three words. `exact`: the same bits for every input (NaN stays NaN, zeros keep
their sign). `real`: equal over the real numbers wherever the old expression is defined, and in
floats within a stated number of ULPs of the exact result (of its largest term, where terms cancel,
and of the largest element of a reduction), or no further from it than before.
`fast`: equal for ordinary numbers; NaN, infinities, overflow and rounding may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from symgraph.errors import ArgumentError, ArgumentTypeError, PassError, SymgraphError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import is_float
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value, add_origins
from symgraph.graph.onhost import of_complex
from symgraph.graph.origin import inherit
from symgraph.graph.registry import OPS, F, Functions
from symgraph.graph.samples import Arg
from symgraph.graph.types import TupleType
from symgraph.passes.patterns import Apply, Pattern, pattern_of

SOUND = ("exact", "real", "fast")
DTYPES = ("float", "integer", "number", "any")

# An attempt gets a value and gives what comes in its place, or None.
Attempt = Callable[[Value], Value | None]


@frozen(eq=False)
class Rule:
    """One rule: its name, the operations it looks at, and the attempt that applies it.

    `roots` are operations by name; none means all. `dtypes` says for which operands it holds:
    "float", "integer" (which wrap around), "number" (both) or "any". `ulps` bounds the error of a
    `real` rule. `before_grad` rules also run before differentiation: the gradient of what they
    give is the gradient of what they replace. `examples` are expressions that it must change.
    """

    name: str
    roots: tuple[str, ...]
    attempt: Attempt
    sound: str
    dtypes: str
    about: str
    ulps: float = 0.0
    before_grad: bool = False
    examples: tuple[Example, ...] = ()
    pattern: Apply | None = field(default=None, repr=False)
    result: Any = field(default=None, repr=False)

    def __call__(self, value: Value) -> Value | None:
        """Apply to one value: what comes in its place, of the same type, or None.

        Raises `PassError` when the rule fails or gives another type.
        """
        if not isinstance(value, Value):
            raise ArgumentTypeError(
                f"{self.name}: a rule takes a value, got {type(value).__name__}.",
                fix="give it to a function: sg.function(..., passes=[rule])",
            )
        if self.dtypes not in kinds_of(value):
            return None
        with inherit(value.origins):
            return self.applied(value)

    def applied(self, value: Value) -> Value | None:
        """Apply to a value whose dtypes suit the rule, inside of what inherits its origins."""
        try:
            found = self.attempt(value)
        except SymgraphError as problem:
            raise PassError(
                f"{self.name}: the rule failed on `{value.label}`: {problem.message}",
                details=[value.describe(), *problem.details],
            ) from problem
        except Exception as problem:
            raise PassError(
                f"{self.name}: the rule failed on `{value.label}`: "
                f"{type(problem).__name__}: {problem}",
                details=[value.describe()],
            ) from problem
        if found is None or found is value:
            return None
        found = _fitted(self.name, value, found)
        add_origins(found, value.origins)
        return found


_NOTHING: frozenset[str] = frozenset()
_ANY = frozenset({"any"})
_FLOATS = frozenset({"any", "number", "float"})
_INTEGERS = frozenset({"any", "number", "integer"})


def kinds_of(value: Value) -> frozenset[str]:
    """Give the `dtypes` of the rules that may look at a value, by the dtypes of its operands."""
    # rules are about real numbers; what they look at may begin to be real in between
    if of_complex(value) or any(map(of_complex, value.inputs)):
        return _NOTHING
    kinds = [part.type.dtype for part in value.inputs if not isinstance(part.type, TupleType)]
    numbers = [dtype for dtype in kinds if dtype != "bool"]
    if not numbers:
        return _ANY
    return _FLOATS if all(map(is_float, numbers)) else _INTEGERS


@frozen
class Example:
    """An expression that a rule changes: how it is written, and its operands by name.

    An operand is an `Arg`: shape, dtype and the range in which the rule is tried.
    """

    write: Callable[..., Value]
    operands: Mapping[str, Arg]

    def build(self, dtype: str | None = None) -> tuple[dict[str, Value], Value]:
        """Make the inputs, sizes as they are, and the expression; `dtype` replaces float dtypes."""
        inputs = {
            name: tensor(
                name, operand.shape, dtype if dtype and is_float(operand.dtype) else operand.dtype
            )
            for name, operand in self.operands.items()
        }
        return inputs, self.write(**inputs)


def _fitted(name: str, old: Value, new: Any) -> Value:
    """Repeat what came out along axes that only numbers had; any other type is an error."""
    if not isinstance(new, Value):
        raise PassError(
            f"{name}: the rule gives {type(new).__name__} {new!r:.60}, which is no value.",
            details=[old.describe()],
            fix="give a value, or None to leave things as they are",
        )
    if new.type == old.type:
        return new
    if isinstance(old.type, TupleType) or isinstance(new.type, TupleType) or old.dtype != new.dtype:
        fits = False
    else:
        fits = new.ndim <= old.ndim
    if not fits:
        raise PassError(
            f"{name}: the rule replaces {old.type} by {new.type}; it must keep the type.",
            details=[old.describe(), new.describe()],
        )
    return F.broadcast_to(new, old.shape)


def rule(
    name: str,
    old: Pattern,
    new: Pattern | float | Callable[..., Value | None],
    *,
    sound: str = "real",
    ulps: float = 4.0,
    dtypes: str = "float",
    before_grad: bool = False,
    example: Mapping[str, Any] | None = None,
    written: Sequence[Callable[..., Value]] = (),
    about: str = "",
) -> Rule:
    """Make a rule from two patterns: wherever `old` stands, `new` comes.

    `new` may also be a function of `F` and the bindings by name, which gives a value, or None to
    leave things as they are. `example` says what fills the holes: an `Arg` for a value (default: 2
    by 3 floats from -3 to 3), a number for a literal, an attribute. `written` are other ways in
    which users write the same; each must lead to the rule. Raises `ArgumentError` for an unknown
    word and for a hole that nothing fills, and `ArgumentTypeError` for what is no rule.

    >>> import symgraph as sg
    >>> x, y = sg.wild("x y")
    >>> join = rule("join", sg.P.exp(x) * sg.P.exp(y), sg.P.exp(x + y), sound="fast")
    >>> a, b = sg.vector("a"), sg.vector("b")
    >>> join(sg.exp(a) * sg.exp(b)).op.name
    'exp'
    """
    if not isinstance(old, Apply):
        raise ArgumentTypeError(
            f"rule: `{name}` must replace an operation, got {type(old).__name__}.",
            fix="write the old side with sg.P, e.g. sg.P.exp(x)",
        )
    _check_words(name, sound, dtypes, ulps)
    _check_example(name, example, written)
    side = pattern_of(new) if isinstance(new, bool | int | float) else new
    _check_sides(name, old, side)
    given = dict(example or {})
    return Rule(
        name,
        (old.name,),
        _attempt(old, side),
        sound,
        dtypes,
        about,
        ulps if sound == "real" else 0.0,
        before_grad,
        _examples(old, given, written),
        old,
        side,
    )


def local_rule(
    *roots: str,
    example: Callable[..., Value] | None = None,
    operands: Mapping[str, Arg] | None = None,
    more: Sequence[tuple[Callable[..., Value], Mapping[str, Arg]]] = (),
    sound: str = "real",
    ulps: float = 4.0,
    dtypes: str = "any",
    before_grad: bool = False,
) -> Callable[[Attempt], Rule]:
    """Make a function of a value a rule, for what no pattern can say.

    It is asked at every value whose operation is among `roots` (at all, without any) and gives
    what comes in its place, or None. Its name and docstring are the rule's. Other arguments as
    for `rule`; `example` is an expression that it changes, with its operands by name.

    >>> import symgraph as sg
    >>> @local_rule("sum", dtypes="float")
    ... def sum_of_exp(value):
    ...     (x,) = value.inputs
    ...     return sg.exp(sg.logsumexp(x.inputs[0])) if x.op.name == "exp" else None
    >>> x = sg.vector("x")
    >>> sum_of_exp(sg.exp(x).sum()).op.name, sum_of_exp(x.sum())
    ('exp', None)
    """

    for root in roots:
        if not isinstance(root, str) or root not in OPS:
            raise ArgumentError(
                f"local_rule: there is no operation {root!r:.60}.",
                fix='name operations: @sg.local_rule("exp", "log"), or none: @sg.local_rule()',
            )

    def register(attempt: Attempt) -> Rule:
        name = getattr(attempt, "__name__", None)
        if not callable(attempt) or name is None:
            raise ArgumentTypeError(
                f"local_rule: must stand above a function, got {type(attempt).__name__}."
            )
        _check_words(name, sound, dtypes, ulps)
        _check_example(name, operands, [] if example is None else [example])
        first = () if example is None else (Example(example, operands or {}),)
        shown = (*first, *(Example(*one) for one in more))
        about = (attempt.__doc__ or "").strip().split("\n")[0]
        bound = ulps if sound == "real" else 0.0
        return Rule(name, roots, attempt, sound, dtypes, about, bound, before_grad, shown)

    return register


def _check_words(name: str, sound: str, dtypes: str, ulps: float) -> None:
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f"rule: the name must be a string, got {type(name).__name__}.",
            fix='sg.rule("join_exponentials", ...)',
        )
    if sound not in SOUND:
        raise ArgumentError(
            f"rule: `{name}` is {sound!r}, which is no soundness.", fix=f"one of {', '.join(SOUND)}"
        )
    if dtypes not in DTYPES:
        raise ArgumentError(f"rule: `{name}` is for {dtypes!r}.", fix=f"one of {', '.join(DTYPES)}")
    if isinstance(ulps, bool) or not isinstance(ulps, int | float) or not ulps >= 0:
        raise ArgumentError(f"rule: `{name}` is within {ulps!r} ulps.", fix="give a number, as 4")


def _check_example(name: str, example: Any, written: Any) -> None:
    if example is not None and not isinstance(example, Mapping):
        raise ArgumentTypeError(
            f"rule: the operands of the example of `{name}` must be a mapping, "
            f"got {type(example).__name__}.",
            fix='{"x": Arg((2, 3)), "A": 1}, by the names of the holes',
        )
    if not isinstance(written, Sequence) or not all(map(callable, written)):
        raise ArgumentTypeError(
            f"rule: what users write for `{name}` must be functions of its operands.",
            fix="a list such as [lambda x: sg.log(1 + sg.exp(x))]",
        )


def _check_sides(name: str, old: Apply, new: Any) -> None:
    """Raise unless every hole means one thing, and those of the new side are filled."""
    if not isinstance(new, Pattern) and (isinstance(new, Value) or not callable(new)):
        raise ArgumentTypeError(
            f"rule: `{name}` must give a pattern, a number or what a function gives, "
            f"got {type(new).__name__}.",
            fix="write the new side with sg.P and the holes of the old side",
        )
    kinds = holes(old)
    filled = [hole for names in kinds.values() for hole in names]
    twice = [hole for hole in filled if filled.count(hole) > 1]
    if twice:
        raise ArgumentError(
            f"rule: `{name}` has two kinds of holes called `{twice[0]}`.", fix="rename one"
        )
    if isinstance(new, Pattern):
        for kind, names in holes(new).items():
            for hole in names:
                if hole not in kinds[kind]:
                    raise ArgumentError(
                        f"rule: nothing fills the hole `{hole}` in what `{name}` gives.",
                        fix=f"the old side has {', '.join(filled) or 'no holes'}",
                    )


def _attempt(old: Apply, new: Pattern | Callable[..., Value | None]) -> Attempt:
    if isinstance(new, Pattern):
        build: Callable[[Functions, Mapping[str, Any]], Any] = new.build
    else:
        build = lambda functions, known: new(functions, **known)

    def attempt(value: Value) -> Value | None:
        for known in old.match(value, {}):
            found = build(F, known)
            if found is not None:
                return found if isinstance(found, Value) else F.constant(found, value.dtype)
        return None

    return attempt


def _examples(
    old: Apply, given: Mapping[str, Any], written: Sequence[Callable[..., Value]]
) -> tuple[Example, ...]:
    """Give the example that the pattern itself is, then those written otherwise."""
    operands = {
        name: given.get(name, Arg((2, 3), low=-3.0, high=3.0)) for name in holes(old)["Wild"]
    }
    fixed = {name: value for name, value in given.items() if name not in operands}

    def itself(**values: Value) -> Value:
        built: Value = old.build(F, {**fixed, **values})
        return built

    return (Example(itself, operands), *(Example(write, operands) for write in written))


def holes(pattern: Pattern) -> dict[str, list[str]]:
    """List the names of the holes of each kind, in the order in which they stand."""
    found: dict[str, list[str]] = {"Wild": [], "Literal": [], "Attribute": []}
    stack: list[Any] = [pattern]
    while stack:
        part = stack.pop()
        names = found.get(type(part).__name__)
        if names is not None and part.name not in names:
            names.append(part.name)
        if isinstance(part, Apply):
            stack.extend(value for _, value in reversed(part.attributes))
            stack.extend(reversed(part.operands))
    return found


def indexed(rules: Iterable[Rule]) -> dict[str | None, list[Rule]]:
    """Sort rules by the operations they look at; under None those that look at all."""
    index: dict[str | None, list[Rule]] = {}
    for one in rules:
        for root in one.roots or (None,):
            index.setdefault(root, []).append(one)
    return index
