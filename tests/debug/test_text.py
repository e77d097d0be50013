"""Text views: show, debugprint, and what notebooks get."""

import re

import pytest

import symgraph as sg
from symgraph.errors import ArgumentTypeError


def _net() -> tuple[sg.Value, sg.Function]:
    x = sg.tensor("x", (sg.dim("B"), 3))
    w = sg.shared([[1.0], [2.0], [3.0]], "w")
    loss = sg.exp(x @ w).sum()
    step = sg.function([x], loss, updates={w: w - 0.1 * sg.grad(loss, w)}, name="step")
    return loss, step


def test_show_defines_every_name_above_its_use_and_fits_the_page() -> None:
    _, step = _net()
    lines = sg.show(step).splitlines()
    assert lines[0] == "step(x: float32[B, 3])"
    assert lines[1] == "  shared w: float32[3, 1]"
    known = {"x", "w"}
    for line in lines[2:]:
        assert len(line) <= 100
        defined = re.match(r"  (%\d+) = (.*?) : ", line)
        if defined:
            assert set(re.findall(r"%\d+", defined.group(2))) <= known
            known.add(defined.group(1))
            assert "# test_text.py:" in line
    assert re.fullmatch(r"  update w <- %\d+", lines[-2])
    assert re.fullmatch(r"  return %\d+", lines[-1])


def test_show_of_values_lists_and_graphs() -> None:
    loss, step = _net()
    assert "return %2" in sg.show(loss)
    assert sg.show([loss, loss]).endswith("return %2, %2")
    assert sg.show(step.graph, origins=False) == sg.show(step, origins=False).replace(
        "step(", "graph("
    )
    with pytest.raises(ArgumentTypeError, match="cannot show int"):
        sg.show(3)


def test_show_tells_undecided_sizes() -> None:
    a, b = sg.vector("a"), sg.vector("b")
    assert "require a.shape[0] == b.shape[0]" in sg.show(a + b)


def test_two_inputs_of_one_name_are_told_apart() -> None:
    a, b = sg.scalar("x"), sg.scalar("x")
    text = sg.show(a - b, origins=False)
    assert "x: float32, x#2: float32" in text
    assert "subtract(x, x#2)" in text


def test_long_signatures_are_broken() -> None:
    values = [sg.tensor(f"input_number_{i}", (sg.dim("B"), 100, 200)) for i in range(8)]
    total = sum(values[1:], values[0])
    assert all(len(line) <= 100 for line in sg.show(total).splitlines())


def test_debugprint_prints_shared_parts_once_and_can_be_cut() -> None:
    x = sg.vector("x")
    h = sg.exp(x)
    text = sg.debugprint(h * h + h)
    assert text.count("exp") == 1
    assert [len(line) - len(line.lstrip()) for line in text.splitlines()] == [0, 2, 4, 6, 4, 2]
    assert sg.debugprint(h * h + h, depth=1).splitlines()[1:] == ["  ..."]


def test_debugprint_shows_updates() -> None:
    _, step = _net()
    assert "update w <- subtract" in sg.debugprint(step)


def test_notebook_html_is_escaped_and_folds_the_graph() -> None:
    x = sg.vector("<b>x</b>")
    html = sg.exp(x)._repr_html_()
    assert "<b>x</b>" not in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html
    assert "<details>" in html
    value = x
    for _ in range(100):
        value = sg.sin(value)
    assert "more lines" in value._repr_html_()


@pytest.mark.parametrize(
    ("make", "formula"),
    [
        (lambda x, y: (x + y) * x, r"\left(x + y\right) \cdot x"),
        (lambda x, y: x / (y - 1), r"\frac{x}{y - 1}"),
        (lambda x, y: -(x + y), r"-\left(x + y\right)"),
        (lambda x, y: (x + 1) ** 2, r"\left(x + 1\right)^{2}"),
        (lambda x, y: sg.exp(-x), "e^{-x}"),
        (lambda x, y: sg.sqrt(x) * sg.log(y), r"\sqrt{x} \cdot \ln y"),
        (lambda x, y: x * 1e-10, r"x \cdot 10^{-10}"),
        (lambda x, y: x < y, "x < y"),
        (lambda x, y: sg.softplus(x), r"\ln(1 + e^{x})"),
        (lambda x, y: sg.relu(x + y), r"\operatorname{relu} \left(x + y\right)"),
        (lambda x, y: sg.maximum(x, y + 1), r"\max(x, y + 1)"),
        (lambda x, y: sg.logsumexp(x), r"\operatorname{logsumexp}\left(x\right)"),
        (lambda x, y: x - (y - x), r"x - \left(y - x\right)"),
    ],
)
def test_formulas(make: object, formula: str) -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    assert make(x, y)._repr_latex_() == rf"$\displaystyle {formula}$"  # type: ignore[operator]


def test_reductions_and_symbols_in_formulas() -> None:
    m = sg.matrix("W_1")
    assert m.sum(axis=0)._repr_latex_() == r"$\displaystyle \sum_{0} W_{1}$"
    assert m.sum()._repr_latex_() == r"$\displaystyle \sum W_{1}$"
    assert sg.scalar("my_loss")._repr_latex_() == r"$\displaystyle \mathrm{my\_loss}$"


def test_large_formulas_get_named_parts() -> None:
    x = sg.scalar("x")
    value = x
    for _ in range(60):
        value = sg.sin(value) + sg.cos(value)
    text = value._repr_latex_()
    assert r"\begin{aligned}" in text
    assert "t_{1}" in text
    assert len(text) < 40_000


def test_a_formula_parses_as_balanced_latex() -> None:
    loss, _ = _net()
    text = loss._repr_latex_()
    assert text.count("{") == text.count("}")
    assert text.count(r"\left") == text.count(r"\right")


def test_long_lines_of_results_and_updates_are_broken_too() -> None:
    x = sg.vector("x")
    parts = [sg.exp(x * float(i)) for i in range(60)]
    w = sg.shared(1.0, "w" * 90)
    f = sg.function([x], parts, updates={w: w + 1}, name="n" * 120)
    lines = sg.show(f).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum("%" in line and "=" not in line for line in lines) > 2


def test_a_deep_tree_stays_linear_in_its_length() -> None:
    value = sg.scalar("x")
    for _ in range(3000):
        value = sg.sin(value)
    text = sg.debugprint(value)
    assert len(text.splitlines()) == 3001
    assert len(text) < 3001 * 130
    assert "[2999] sin" in text
    with pytest.raises(ArgumentTypeError, match="depth must be an int"):
        sg.debugprint(value, depth="all")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "formula"),
    [
        (True, r"\mathrm{True}"),
        (float("inf"), r"\infty"),
        (float("-inf"), r"-\infty"),
        (float("nan"), r"\mathrm{NaN}"),
        (1e-10, "10^{-10}"),
    ],
)
def test_literals_in_formulas(number: object, formula: str) -> None:
    assert sg.constant(number)._repr_latex_() == rf"$\displaystyle {formula}$"
