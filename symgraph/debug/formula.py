"""Values as parts of formulas: a LaTeX text, and how tightly it holds together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from symgraph.dims import Dim, latex
from symgraph.frozen import frozen
from symgraph.graph.leaves import Constant, SizeOf
from symgraph.graph.node import Value

# how tightly a part holds, from `x < y` to `x`; a TIGHT one takes no exponent without parentheses
RELATION, SUM, PREFIX, PRODUCT, TIGHT, ATOM = range(6)


@frozen
class Part:
    """A formula and how tightly it holds."""

    text: str
    level: int

    def at_least(self, level: int) -> str:
        """Give the formula, in parentheses where it holds less tightly than needed."""
        return self.text if self.level >= level else rf"\left({self.text}\right)"


# how tightly results hold and operands must hold, where the template alone does not tell
_LEVELS: dict[str, tuple[int, ...]] = {
    "subtract": (SUM, SUM, PREFIX),
    "negative": (SUM, PREFIX),
    "pow": (TIGHT, ATOM, RELATION),
    "square": (TIGHT, ATOM),
    "expm1": (SUM, RELATION),
    "where": (TIGHT, RELATION, RELATION, RELATION),
    "matmul": (PRODUCT, PRODUCT, PRODUCT),
    "matmul_bias": (SUM, PRODUCT, PRODUCT, SUM),
    "matmul_bias_relu": (ATOM, PRODUCT, PRODUCT, SUM),
    "conv": (PRODUCT, TIGHT, TIGHT),
    "conv_bias": (SUM, TIGHT, TIGHT, SUM),
    "cross_entropy": (SUM, RELATION, RELATION),
    "cross_entropy_grad": (PRODUCT, PREFIX, RELATION, RELATION),
    **dict.fromkeys(
        ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and",
         "logical_or", "logical_xor"), (RELATION, SUM, SUM),
    ),
}  # fmt: skip
# structured operations that mathematics has signs for; elementwise ones bring their own templates
_TEMPLATES = {
    "matmul": r"{0} \, {1}",
    "matmul_bias": r"{0} \, {1} + {2}",
    "matmul_bias_relu": r"\operatorname{{relu}} \left( {0} \, {1} + {2} \right)",
    "conv": r"{1} \ast {0}",
    "conv_bias": r"{1} \ast {0} + {2}",
    "cross_entropy": r"-\ln \operatorname{{softmax}}\left({0}\right)_{{{1}}}",
    "cross_entropy_grad": (
        r"\left(\operatorname{{softmax}}\left({1}\right) - \mathbf{{1}}_{{{2}}}\right) \cdot {0}"
    ),
}
_TRANSPARENT = {
    "attach", "broadcast_to", "cast", "positive", "reshape", "specify_shape", "stop_gradient",
}  # fmt: skip
_REDUCTIONS = {"sum": r"\sum", "prod": r"\prod", "max": r"\max", "min": r"\min"}

_GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda",
    "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
    "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
}  # fmt: skip
_ESCAPES = {
    "\\": r"\backslash ", "{": r"\{", "}": r"\}", "$": r"\$", "%": r"\%", "&": r"\&", "#": r"\#",
    "_": r"\_", "^": r"\wedge ", "~": r"\sim ", " ": r"\ ",
}  # fmt: skip


def parts_of(
    values: Iterable[Value],
    leaf: Callable[[Value], Part],
    named: Callable[[Value, Part], Part],
) -> dict[Value, Part]:
    """Give a part for each value, operands first.

    `leaf` gives what stands for an input or a shared variable, and `named` what stands for a
    computed value in the formulas that use it: its part, or a name.
    """
    parts: dict[Value, Part] = {}
    for value in values:
        if isinstance(value.op, Constant):
            parts[value] = literal(value.op.array, str(value.type))
        elif isinstance(value.op, SizeOf):
            parts[value] = size(value.op.dim)
        elif not value.inputs:
            parts[value] = leaf(value)
        elif is_transparent(value):
            parts[value] = parts[shown(value)]
        else:
            made = _computed(value, [parts[operand] for operand in value.inputs])
            parts[value] = named(value, made)
    return parts


def is_transparent(value: Value) -> bool:
    """Tell whether a formula shows the operand in place of the value."""
    return value.op.name in _TRANSPARENT or _other_factor(value) is not None


def shown(value: Value) -> Value:
    """Give the value that a formula shows in place of this one: itself, or an operand far below."""
    while value.inputs and is_transparent(value):
        other = _other_factor(value)
        value = value.inputs[0] if other is None else other
    return value


def _other_factor(value: Value) -> Value | None:
    """Give the factor that a product with 1 is equal to."""
    if value.op.name != "multiply":
        return None
    for one, other in (value.inputs, value.inputs[::-1]):
        while one.op.name in _TRANSPARENT:
            one = one.inputs[0]
        if isinstance(one.op, Constant) and one.op.array.size == 1 and one.op.array.item() == 1:
            return other
    return None


def _computed(value: Value, operands: list[Part]) -> Part:
    name = value.op.name
    if name == "add":
        second = operands[1].at_least(SUM)
        sign = " - " if second.startswith("-") else " + "
        return Part(operands[0].at_least(SUM) + sign + second.removeprefix("-"), SUM)
    if name == "multiply":
        first, other = operands
        level = min(PRODUCT, max(other.level, PREFIX))  # `x cos y z` would be misread
        return Part(rf"{first.at_least(PRODUCT)} \cdot {other.at_least(PREFIX)}", level)
    if name == "permute_dims" and _is_transposition(getattr(value.op, "axes", ())):
        return Part(operands[0].at_least(ATOM) + "^{T}", TIGHT)
    template = _TEMPLATES.get(name) or getattr(value.op, "latex", None)
    if template:
        level, *needed = _LEVELS.get(name) or _read_levels(template, len(operands))
        texts = [part.at_least(least) for part, least in zip(operands, needed)]
        return Part(template.format(*texts), level)
    if name in _REDUCTIONS:
        axes = getattr(value.op, "axis", ())
        over = axes if isinstance(axes, tuple) else (axes,)
        under = ",".join(map(str, over)) if len(over) < value.inputs[0].ndim else ""
        sign = _REDUCTIONS[name] + (f"_{{{under}}}" if under else "")
        return Part(f"{sign} {operands[0].at_least(PREFIX)}", PREFIX)
    inside = ", ".join(part.text for part in operands)
    return Part(rf"\operatorname{{{escaped(name)}}}\left({inside}\right)", ATOM)


def _is_transposition(axes: tuple[int, ...]) -> bool:
    count = len(axes)
    return count >= 2 and axes == (*range(count - 2), count - 1, count - 2)


def _read_levels(template: str, count: int) -> list[int]:
    """Read off a template what operands stand inside brackets and so need none of their own."""
    inside = [
        re.search(rf"[{{(,|]\s?\{{{slot}\}}\s?[}}),|]", template) is not None
        for slot in range(count)
    ]
    return [TIGHT if all(inside) else PREFIX, *(RELATION if each else TIGHT for each in inside)]


def literal(array: Any, type: str) -> Part:
    """Give a constant: a number, or its type where it holds several."""
    if array.size != 1:
        return Part(rf"\mathrm{{{escaped(type)}}}", ATOM)
    number = array.item()
    if isinstance(number, bool):
        return Part(rf"\mathrm{{{number}}}", ATOM)
    if isinstance(number, complex):
        parts = [literal(np.asarray(one), type).text for one in (number.real, number.imag)]
        return Part(rf"({parts[0]} + {parts[1]} i)", ATOM)
    text = f"{number:.6g}" if isinstance(number, float) else str(number)
    if not math.isfinite(number):
        sign = {"inf": r"\infty", "-inf": r"-\infty"}.get(text, r"\mathrm{NaN}")
        return Part(sign, SUM if number < 0 else ATOM)
    if "e" in text:
        mantissa, exponent = text.split("e")
        power = f"10^{{{int(exponent)}}}"
        return (
            Part(power, TIGHT) if mantissa == "1" else Part(rf"{mantissa} \cdot {power}", PRODUCT)
        )
    return Part(text, SUM if text.startswith("-") else ATOM)


def size(dim: Dim | int) -> Part:
    """Give a size: a symbol, or a formula of symbols."""
    text = latex(dim)
    return Part(text, ATOM if re.fullmatch(r"[A-Za-z]|\d+", text) else SUM)


def symbol(label: str) -> str:
    r"""Give a name as a symbol: `alpha` is \alpha, `W_1` and `x2` have indices.

    >>> symbol("beta_out"), symbol("loss")
    ('\\beta_{\\mathrm{out}}', '\\mathrm{loss}')
    """
    found = re.fullmatch(r"([A-Za-z]|[A-Za-z]{2,7}(?=_))(?:_([A-Za-z0-9]+)|(\d+))", label)
    if found and (len(found[1]) == 1 or found[1] in _GREEK):
        under = found[2] or found[3]
        plain = under if re.fullmatch(r"\d+|[A-Za-z]", under) else rf"\mathrm{{{under}}}"
        return f"{symbol(found[1])}_{{{plain}}}"
    if label in _GREEK:
        return rf"\{label}"
    if re.fullmatch(r"[A-Za-z]", label):
        return label
    return rf"\mathrm{{{escaped(label)}}}"


def escaped(text: str) -> str:
    """Give text whose characters mean themselves in LaTeX."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text if letter.isprintable())
