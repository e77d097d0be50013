"""The tables of rewriting rules, from the rules themselves: before, after, soundness, when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from docstrings import escaped

from symgraph.graph.leaves import Constant, short_text
from symgraph.graph.node import Value
from symgraph.graph.walk import topological
from symgraph.passes import algebra, canonical, fold, stabilise
from symgraph.passes.rules import Rule

INTRODUCTION = """\
What every `sg.function` does to a graph before it runs it, in one sweep from the operands to the
results, until no rule fires. *Sound* says what a rule promises:

* `exact`: the same bits for every input; a NaN stays a NaN, and zeros keep their sign.
* `real`: equal over the real numbers wherever the old expression is defined; in floats within the
  stated number of units in the last place of the exact result, or no further from it than before.
* `fast`: equal for ordinary numbers; what a NaN, an infinity or an overflow becomes may differ.

`config.rewrites` chooses how far to go: `"none"`, `"exact"`, `"real"` (the default) or `"fast"`.
Expressions are also rewritten before they are differentiated, by the rules with a tick under
*grad*: those whose result has the same gradient.

Rules are about values. Where a rule makes an operand needless, the errors that computing it would
have raised, an index out of range for one, vanish with it, as they do for whatever nobody needs.

Each row is tested: that it fires in a whole function from what a user writes, at extreme values, in
every float dtype, in units in the last place against exact arithmetic, and by a proof of SymPy over
the reals wherever one is possible. [Add a rule or a pass](../how-to/add-a-pass.md) shows how to
write one.
"""

TABLES = (
    ("Stabilisation", stabilise, stabilise.RULES),
    ("Algebra", algebra, algebra.RULES),
    ("Canonical form", canonical, canonical.RULES),
    ("Constant folding", fold, fold.RULES),
)


def rules() -> str:
    """Write the tables of all rules."""
    parts = ["# Rewriting rules", INTRODUCTION]
    for title, module, table in TABLES:
        parts += [f"## {title}", (module.__doc__ or "").split("\n\n", 1)[1].strip()]
        formulas = [one for one in table if one.pattern is not None]
        functions = [one for one in table if one.pattern is None]
        if formulas:
            header = ("rule", "before", "after", "sound", "grad", "remark")
            parts.append(_table(header, map(_formula_row, formulas)))
        if functions:
            header = ("rule", "what it does", "sound", "grad")
            parts.append(_table(header, map(_function_row, functions)))
    return "\n\n".join(parts) + "\n"


def _formula_row(rule: Rule) -> Sequence[str]:
    _, old = rule.examples[0].build()
    new = rule(old)
    after = _code(new) if new is not None else ""
    return (f"`{rule.name}`", _code(old), after, _sound(rule), _grad(rule), escaped(rule.about))


def _function_row(rule: Rule) -> Sequence[str]:
    return (f"`{rule.name}`", escaped(rule.about), _sound(rule), _grad(rule))


_SIGNS = {"add": " + ", "subtract": " - ", "multiply": " * ", "divide": " / ", "pow": " ** "}


def _code(value: Value) -> str:
    """Give an expression as a user writes it: `log(1 + exp(x))`."""
    texts: dict[Value, str] = {}
    for node in topological([value]):
        operands = [texts[operand] for operand in node.inputs]
        name = node.op.name
        if isinstance(node.op, Constant):
            texts[node] = short_text(node.op.array)
        elif not operands:
            texts[node] = node.label
        elif name in _SIGNS:
            texts[node] = _SIGNS[name].join(map(_closed, operands))
        elif name == "negative":
            texts[node] = f"-{_closed(operands[0])}"
        else:
            texts[node] = f"{name}({', '.join([*operands, *_attributes(node)])})"
    return f"`{texts[value]}`"


def _closed(text: str) -> str:
    return f"({text})" if any(sign in text for sign in _SIGNS.values()) or text[0] == "-" else text


def _attributes(node: Value) -> list[str]:
    given = node.op.attributes()
    return [f"{name}={given[name]!r}" for name in ("axis", "axes", "keepdims") if name in given]


def _sound(rule: Rule) -> str:
    return f"real, {rule.ulps:g} ULP" if rule.sound == "real" else rule.sound


def _grad(rule: Rule) -> str:
    return "✓" if rule.before_grad else ""


def _table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    names = list(header)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *lines])
