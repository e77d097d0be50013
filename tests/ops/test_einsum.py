"""einsum against NumPy's over random subscripts, its order of products, and what is undecided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import ArgumentError, GuardError
from symgraph.graph.walk import topological
from tests.ops.running import run

SIZES = {"a": 2, "b": 3, "c": 4, "d": 1}


@st.composite
def problems(draw: Any) -> tuple[str, list[tuple[int, ...]]]:
    """Draw subscripts and shapes that fit, axes of size 1 in the place of others included."""
    terms, shapes = [], []
    hidden = (2, 3)
    for _ in range(draw(st.integers(1, 4))):
        letters = draw(st.lists(st.sampled_from("abcd"), max_size=3))
        single = st.booleans() if len(set(letters)) == len(letters) else st.just(False)
        shape = [1 if draw(single) else SIZES[letter] for letter in letters]
        if draw(st.booleans()):
            place = draw(st.integers(0, len(letters)))
            letters.insert(place, "...")
            shape[place:place] = hidden[draw(st.integers(0, 2)) :]
        terms.append("".join(letters))
        shapes.append(tuple(shape))
    text = ",".join(terms)
    if draw(st.booleans()):
        used = sorted(set(text) - set(".,"))
        kept = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
        text += "->" + ("..." if "..." in text else "") + "".join(kept)
    return text, shapes


@given(problems(), st.booleans(), st.booleans())
def test_any_subscripts_mean_what_they_mean_in_numpy(
    problem: Any, optimize: bool, symbolic: bool
) -> None:
    text, shapes = problem
    arrays = [np.arange(1.0, 1 + np.prod(shape)).reshape(shape) % 5 - 2 for shape in shapes]
    if symbolic and any(1 in shape for shape in shapes):
        return  # only a size that is written as 1 is broadcast
    found = run(
        lambda *values: sg.einsum(text, *values, optimize=optimize), *arrays, symbolic=symbolic
    )
    np.testing.assert_allclose(found, np.einsum(text, *arrays))


def products(value: Any) -> list[str]:
    return [str(node.type) for node in topological([value]) if node.op.name == "matmul"]


def test_small_products_come_first() -> None:
    a, b, c = (sg.tensor(n, s) for n, s in (("a", (50, 900)), ("b", (900, 50)), ("c", (50, 3))))
    assert products(sg.einsum("ij,jk,kl->il", a, b, c)) == ["float32[900, 3]", "float32[50, 3]"]
    left = sg.einsum("ij,jk,kl->il", a, b, c, optimize=False)
    assert products(left) == ["float32[50, 50]", "float32[50, 3]"]
    told = sg.einsum("ij,jk,kl->il", a, b, c, optimize=[(0, 1), (0, 1)])
    assert sorted(products(told)) == ["float32[3, 50]", "float32[50, 50]"]
    with pytest.raises(ArgumentError, match="einsum: optimize must be a bool or 2 pairs"):
        sg.einsum("ij,jk,kl->il", a, b, c, optimize=[(0, 1)])


def test_sizes_that_may_differ_are_checked_when_they_are_known() -> None:
    x, y = sg.tensor("x", (sg.dim("B"), 3)), sg.tensor("y", (sg.dim("C"), 3))
    f = sg.function([x, y], sg.einsum("ij,ij->i", x, y))
    ones = np.ones((2, 3), np.float32)
    assert f(ones, ones).tolist() == [3, 3]
    with pytest.raises(GuardError, match=r"2 != 4|4 != 2"):
        f(ones, np.ones((4, 3), np.float32))
