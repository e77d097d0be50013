"""Formulas: how operations read, what gets a name, and that the text is LaTeX that can be set."""

from __future__ import annotations

import re
from typing import Any

import pytest

import symgraph as sg
from symgraph.debug.formula import symbol
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.registry import OPS

B = sg.dim("B")


def check(text: str) -> None:
    """Brackets close, no exponent stands on another, and matplotlib can set what it knows."""
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}"), text
    assert text.count(r"\left") == text.count(r"\right") + text.count(r"\leftarrow"), text
    assert text.count(r"\begin") == text.count(r"\end"), text
    depth = 0
    for letter in plain:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0, text
    assert not re.search(r"\^(\{[^{}]*\}|.)\^", text), text


# what matplotlib calls otherwise
SYNONYMS = {
    r"\bmod": r"\mathrm{mod}", r"\le ": r"\leq ", r"\ge ": r"\geq ", r"\land": r"\wedge",
    r"\lor": r"\vee", r"\lnot": r"\neg", r"\mathbin": "", r"\mathord": "", r"\ ": r"\;",
    r"\&": r"\wedge ",
}  # fmt: skip


def render(text: str) -> None:
    """Set a formula with matplotlib, which knows neither cases nor aligned equations."""
    mathtext = pytest.importorskip("matplotlib.mathtext")
    if r"\begin{cases}" in text:
        return
    text = re.sub(r"\\(begin|end)\{aligned\}", "", text)
    for name, other in SYNONYMS.items():
        text = text.replace(name, other)
    for row in text.split(r"\\"):
        mathtext.MathTextParser("path").parse("$" + re.sub(r"(?<!\\)&", "", row) + "$")


ELEMENTWISE = {
    name: kind for name, kind in OPS.items() if issubclass(kind, Elementwise) and kind.samples
}


def built(kind: type[Elementwise], operand: Any = None) -> sg.Value:
    """Build the first sample, with operands that are sums, which need brackets almost always."""
    sample = kind.samples[0]
    operands = []
    for number, arg in enumerate(sample.args):
        shape = [sample.sizes.get(s, 2) if isinstance(s, str) else s for s in arg.shape]
        name = ("x", "y", "z")[number]
        made = sg.tensor(name, shape, arg.dtype)
        plain = operand is None or arg.dtype == "bool"
        operands.append(made if plain else operand(made))
    value: sg.Value = sample.call(*operands)
    return value


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_elementwise_operation_reads_as_latex(name: str) -> None:
    kind = ELEMENTWISE[name]
    seen = set()
    for operand in (None, lambda x: x + 1, lambda x: x * 2, lambda x: -x, lambda x: sg.square(x)):
        text = sg.latex(built(kind, operand))
        check(text)
        render(text)
        seen.add(text)
    assert len(seen) > 1 or not kind.samples[0].args or kind.takes == "bool", seen


@pytest.mark.parametrize(
    ("make", "formula"),
    [
        (lambda x, y: sg.exp(x) ** 2, r"\left(e^{x}\right)^{2}"),
        (lambda x, y: sg.square(sg.exp(x)), r"\left(e^{x}\right)^2"),
        (lambda x, y: sg.cos(x) * y, r"\left(\cos x\right) \cdot y"),
        (lambda x, y: y * sg.cos(x) * x, r"\left(y \cdot \cos x\right) \cdot x"),
        (lambda x, y: x + -y, "x - y"),
        (lambda x, y: x - -y, r"x - \left(-y\right)"),
        (lambda x, y: sg.square(x / y), r"\left(\frac{x}{y}\right)^2"),
        (lambda x, y: (x * 1) + y, "x + y"),
        (lambda x, y: sg.where(x > y, x, y * 2), None),
        (lambda x, y: (x < y) & (y < x), None),
        (lambda x, y: sg.cast(x, "float64") + 1e-5, "x + 10^{-5}"),
    ],
)
def test_brackets(make: Any, formula: str | None) -> None:
    text = sg.latex(make(sg.scalar("x"), sg.scalar("y")))
    check(text)
    if formula is not None:
        assert text == formula


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alpha", r"\alpha"),
        ("Sigma", r"\Sigma"),
        ("beta_1", r"\beta_{1}"),
        ("x2", "x_{2}"),
        ("w_in", r"w_{\mathrm{in}}"),
        ("alphabet", r"\mathrm{alphabet}"),
        ("my_loss", r"\mathrm{my\_loss}"),
        ("weight.velocity", r"\mathrm{weight.velocity}"),
        (r"\input{secret}", r"\mathrm{\backslash input\{secret\}}"),
        ("50% & $#^~", r"\mathrm{50\%\ \&\ \$\#\wedge \sim }"),
    ],
)
def test_symbols(name: str, text: str) -> None:
    assert symbol(name) == text
    assert sg.latex(sg.scalar(name)) == text
    render(text)


def test_a_transposition_is_one_and_another_order_is_not() -> None:
    x = sg.tensor("x", (2, 3, 4))
    assert sg.latex(sg.permute_dims(x, (0, 2, 1))) == "x^{T}"
    assert sg.latex(sg.permute_dims(x, (2, 1, 0))) == r"\operatorname{permute\_dims}\left(x\right)"


def test_modules_show_their_equation() -> None:
    assert sg.latex(sg.nn.Dense(4, 8)) == r"y = x \, W + b"
    assert sg.latex(sg.nn.Dense(4, 8, bias=None)) == r"y = x \, W"
    assert sg.latex(sg.nn.Conv2d(3, 4, 3)) == r"y = W \ast x + b"
    net = sg.nn.Sequential(sg.nn.Dense(4, 8), sg.nn.Activation("tanh"), sg.nn.Dense(8, 2))
    text = sg.latex(net)
    assert text == (  # whatever the line of this test assigns it to
        r"y = \left(\tanh \left(x \, W_{1} + b_{1}\right)\right) \, W_{2} + b_{2}"
    )  # fmt: skip
    render(text)
    with pytest.raises(ArgumentError, match="Activation: the shape of its input is unknown"):
        sg.latex(sg.nn.Activation("relu"))


def test_any_module_with_a_layer_of_known_size_has_an_example() -> None:
    class Net(sg.nn.Module):
        def __init__(self) -> None:
            self.norm = sg.nn.LayerNorm(5)
            self.head = sg.nn.Dense(5, 1)

        def forward(self, x: Any, *, train: bool = False) -> sg.Value:
            return self.head(self.norm(x))

    text = sg.latex(Net())
    check(text)
    assert text.endswith(r"\, W + b")
    assert "return" in sg.show(Net())


def test_the_gradient_of_cross_entropy_is_what_the_books_say() -> None:
    x, y = sg.tensor("x", (B, 5)), sg.tensor("y", (B,), "int32")
    gradient = sg.grad(sg.nn.cross_entropy(x, y).mean(), x)
    text = sg.latex(gradient)
    assert text == (
        r"\left(\operatorname{softmax}\left(x\right) - \mathbf{1}_{y}\right) \cdot \frac{1}{B}"
    )
    render(text)


def test_shared_large_parts_of_a_gradient_get_names() -> None:
    net = sg.nn.Sequential(sg.nn.Dense(4, 8), sg.nn.Activation("tanh"), sg.nn.Dense(8, 3))
    x, y = sg.tensor("x", (B, 4)), sg.tensor("y", (B,), "int32")
    loss = sg.nn.cross_entropy(net(x), y).mean()
    g = sg.grad(loss, net.parameters())
    text = sg.latex(g)
    check(text)
    render(text)
    rows = text.split(r" \\ ")
    assert text.startswith(r"\begin{aligned} t_{1} &= \tanh \left(x \, W_{1} + b_{1}\right)")
    assert sum(row.count("&=") for row in rows) == len(rows)
    assert [row.split(" ")[0] for row in rows[-4:]] == ["g_{1}", "g_{2}", "g_{3}", "g_{4}"]
    assert rows[-1].startswith(r"g_{4} &= \sum_{0} t_{2}")
    assert len(text) < 500


def test_the_gradient_of_layer_norm() -> None:
    x, gamma, beta = sg.tensor("x", (B, 8)), sg.tensor("gamma", (8,)), sg.tensor("beta", (8,))
    text = sg.latex(sg.grad(sg.layer_norm(x, gamma, beta).sum(), x))
    check(text)
    render(text)
    assert r"\gamma" in text
    assert r"\beta" not in text
    assert r"t_{1} &= \frac{1}{\sqrt{" in text
    assert "1 \\cdot" not in text


def test_functions_show_outputs_and_updates() -> None:
    x, n = sg.vector("x"), sg.shared(0.0, "n")
    total = (x * x).sum()
    f = sg.function([x], total, updates={n: n + total})
    text = sg.latex(f)
    check(text)
    assert r"\mathrm{total} &=" in text
    assert r"n &\leftarrow n + " in text
    assert sg.latex(f.graph) == text
    assert sg.latex([x + 1]).startswith("y = x + 1")


def test_two_inputs_of_one_name_have_indices() -> None:
    a, b, c = sg.scalar("x"), sg.scalar("x"), sg.scalar("x_1")
    assert sg.latex(a - b) == "x_{1} - x_{2}"
    assert sg.latex((a - b) * c) == r"\left(x_{2} - x_{3}\right) \cdot x_{1}"


def test_notebooks_get_the_same_formula() -> None:
    x = sg.scalar("x")
    assert sg.sin(x)._repr_latex_() == rf"$\displaystyle {sg.latex(sg.sin(x))}$"


def test_a_deep_formula_stays_linear_in_its_length() -> None:
    value = sg.scalar("x")
    for number in range(20_000):
        value = sg.sin(value) * float(number + 2)
    text = sg.latex(value)
    check(text)
    assert len(text) < 20_000 * 60


def test_what_is_no_graph_is_refused() -> None:
    for what in (3, "x", [], [1], None, sg.nn.Dense):
        with pytest.raises(ArgumentTypeError, match="latex: cannot show"):
            sg.latex(what)
