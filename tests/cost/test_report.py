"""`sg.cost`: what it takes, hand-known numbers, evaluation, the largest size, the critical path."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models.alexnet import SIDE, AlexNet
from symgraph.config import parse_bytes
from symgraph.dims import evaluate
from symgraph.errors import ArgumentError, ArgumentTypeError, PassError
from symgraph.graph.node import Value, alive, make
from symgraph.graph.op import Op, op
from symgraph.graph.registry import OPS

B, M, N, K = sg.dims.dims("B M N K")


def chain(x: Value, length: int) -> Value:
    for _ in range(length):
        x = sg.sin(x)
    return x


# -- what it takes ---------------------------------------------------------------------------------


def test_the_package_shows_the_function_after_every_submodule_is_loaded() -> None:
    package = sys.modules["symgraph.cost"]
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"symgraph.cost.{module.name}")
    assert callable(sg.cost)
    assert isinstance(sg.cost(sg.tensor("x", (3,))), sg.Cost)
    code = "import symgraph.cost.report, symgraph.cost.limit, symgraph; symgraph.cost.__call__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_values_lists_graphs_and_functions_cost_the_same() -> None:
    x = sg.tensor("x", (B, 3))
    y, z = sg.exp(x), sg.tanh(x)
    graph = sg.Graph([x], [y, z])
    found = [sg.cost(what) for what in ([y, z], (y, z), graph)]
    found.append(sg.cost(sg.function([x], [y, z])))
    assert {(c.flops, c.read, c.written, c.peaks) for c in found} == {
        (6 * B, 24 * B, 24 * B, (36 * B,))
    }
    assert sg.cost(y).flops is 3 * B


def test_attached_updates_are_counted() -> None:
    x, n = sg.tensor("x", (B,)), sg.shared(0.0, "n")
    y = sg.with_updates(x.sum(), {n: n + 1.0})
    found = sg.cost(y)
    assert found.flops is B + 1
    assert found.parameters == 1
    assert len(found.graph.updates) == 1


@pytest.mark.parametrize("wrong", [3, "x", None, [1], np.zeros(3)])
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="cost: takes values, a graph"):
        sg.cost(wrong)


def test_an_operation_without_expand_has_no_known_cost() -> None:
    try:

        @op
        class Opaque(Op):
            """Nobody knows what it does."""

            def infer(self, x: Any) -> Any:
                return x

        y = make(Opaque(), sg.tensor("x", (B,)))
        with pytest.raises(PassError, match=r"`opaque` are not known.*\n  y : .*test_report.py"):
            sg.cost(y * 2.0)
    finally:
        OPS.pop("opaque", None)


def test_counting_leaves_no_trace_in_the_graph() -> None:
    x = sg.tensor("x", (B, 5))
    y = sg.softmax(x) + 1.0
    nodes = sg.Graph([x], [y]).values
    before = [node.origins for node in nodes]
    gc.collect()
    count = alive()
    found = sg.cost(y)
    gc.collect()
    assert found.flops
    assert alive() == count
    assert [node.origins for node in nodes] == before


# -- FLOPs by hand ---------------------------------------------------------------------------------


def test_products() -> None:
    product = sg.matmul(sg.tensor("a", (M, K)), sg.tensor("b", (K, N)))
    assert sg.cost(product).flops is 2 * M * N * K
    batched = sg.matmul(sg.tensor("a", (B, M, K)), sg.tensor("b", (B, K, N)))
    assert sg.cost(batched).flops is 2 * B * M * N * K


def test_integers_and_moves_are_free() -> None:
    x = sg.tensor("x", (M, N), "int32")
    y = sg.tensor("y", (M, N))
    assert sg.cost([x + x, x.sum(), sg.cast(x, "float32"), sg.transpose(y), y[::2]]).flops == 0


def test_softmax() -> None:
    """For each element: the maximum, a difference, an exponential and their sum; then difference,
    exponential and quotient, in a loop of its own.
    """
    assert sg.cost(sg.softmax(sg.tensor("x", (M, N)))).flops is 7 * M * N


def test_alexnet_forward() -> None:
    """The multiplications of AlexNet in two groups at 227 x 227, 724 million in all."""
    multiplications = {
        "features.0": 55 * 55 * 96 * (11 * 11 * 3),  # 105,415,200
        "features.4": 27 * 27 * 256 * (5 * 5 * 48),  # 223,948,800
        "features.8": 13 * 13 * 384 * (3 * 3 * 256),  # 149,520,384
        "features.10": 13 * 13 * 384 * (3 * 3 * 192),  # 112,140,288
        "features.12": 13 * 13 * 256 * (3 * 3 * 192),  # 74,760,192
        "classifier.1": 9216 * 4096,  # 37,748,736
        "classifier.4": 4096 * 4096,  # 16,777,216
        "classifier.7": 4096 * 1000,  # 4,096,000
    }
    assert sum(multiplications.values()) == 724_406_816
    found = sg.cost(AlexNet()(sg.tensor("x", (B, 3, SIDE, SIDE))))
    products = [row for row in found.nodes if row.node.op.name in ("conv", "matmul")]
    assert [row.flops for row in products] == [2 * n * B for n in multiplications.values()]
    assert found.parameters == 60_965_224


# -- numbers ---------------------------------------------------------------------------------------


def windowed() -> sg.Cost:
    H, W = sg.dims.dims("H W")
    x = sg.tensor("x", (B, 3, H, W))
    y = sg.F.max_pool2d(sg.relu(sg.F.conv2d(x, sg.shared(np.zeros((4, 3, 3, 3), "float32")))), 2)
    return sg.cost(sg.concat([y.flatten(), sg.shared(np.zeros(7, "float32"))]).sum())


def test_evaluate_is_the_formula_in_numbers() -> None:
    found = windowed()
    H, W = sg.dims.dims("H W")
    rng = np.random.default_rng(0)
    for _ in range(50):
        env = dict(zip((B, H, W), map(int, rng.integers(4, 100, 3))))
        numbers = found.evaluate(env)
        assert numbers == found.evaluate(B=env[B], H=env[H], W=env[W])
        assert numbers == found.evaluate({"B": env[B], H: env[H]}, W=env[W])
        assert numbers.flops == evaluate(found.flops, env)
        assert numbers.read == evaluate(found.read, env)
        assert numbers.written == evaluate(found.written, env)
        assert numbers.peak == max(evaluate(peak, env) for peak in found.peaks)
        assert numbers.peak == evaluate(found.peak, env)
        assert numbers.moved == numbers.read + numbers.written
        assert numbers.intensity == numbers.flops / numbers.moved


@pytest.mark.parametrize(
    ("sizes", "named", "message"),
    [
        (None, {"B": 1}, "the sizes H, W have no number"),
        (None, {"B": 1, "H": 9, "W": 9, "C": 1}, "there is no size `C` .* depends on B, H, W"),
        (None, {"B": 0, "H": 9, "W": 9}, "size B must be at least 1, got 0"),
        ({B: 2}, {"B": 1, "H": 9, "W": 9}, "B is given as 2 and 1"),
        ({"Bb": 2}, {"H": 9, "W": 9}, "did you mean B"),
    ],
)
def test_wrong_sizes_are_refused(sizes: Any, named: dict[str, int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        windowed().evaluate(sizes, **named)


@pytest.mark.parametrize("wrong", [True, 1.5, "3", None])
def test_a_number_of_a_size_is_an_int(wrong: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="the size B must be an int"):
        windowed().evaluate(B=wrong, H=9, W=9)
    with pytest.raises(ArgumentTypeError, match="is no size"):
        windowed().evaluate({3: 3})


def test_sizes_without_a_name_are_given_by_themselves_or_by_their_label() -> None:
    x = sg.matrix("x")
    found = sg.cost(sg.exp(x))
    first, second = x.shape
    assert found.evaluate({first: 3, second: 4}).flops == 12
    assert found.evaluate({str(first): 3, str(second): 4}).flops == 12


def test_a_graph_of_numbers_needs_no_sizes() -> None:
    found = sg.cost(sg.exp(sg.tensor("x", (2, 3))))
    assert (found.flops, found.peak) == (6, 48)
    assert found.evaluate() == found.evaluate({})
    with pytest.raises(ArgumentError, match="depends on no size"):
        found.evaluate(B=3)


# -- the largest size ------------------------------------------------------------------------------


def test_the_largest_size_is_exact() -> None:
    found = windowed()
    for memory in ("3 kB", "1 MB", 12_345_678, "7 GiB"):
        limit = parse_bytes(memory)
        for name, others in (("B", {"H": 9, "W": 7}), ("H", {"B": 1, "W": 8})):
            best = found.max_dim(name, memory, **others)
            assert found.evaluate({name: best, **others}).peak <= limit
            assert found.evaluate({name: best + 1, **others}).peak > limit


def test_a_peak_that_rises_and_falls_is_searched_too() -> None:
    """A + 2 * (5 - A % 5) numbers are 15, 14, 13, 12, 11 for A from 5 on, and 20 for A = 10."""
    A = sg.dim("A")
    found = sg.cost([sg.tensor("y", (A,)), sg.exp(sg.tensor("z", (5 - A % 5,)))])
    assert [found.evaluate(A=n).peak // 4 for n in range(5, 11)] == [15, 14, 13, 12, 11, 20]
    assert found.max_dim(A, 4 * 13) == 9
    assert found.max_dim(A, 4 * 10) == 4
    assert found.max_dim(A, 4 * 15) == 9
    assert found.max_dim(A, 4 * 16) == 14


@pytest.mark.parametrize(
    ("args", "named", "message"),
    [
        ((B, "1 GB"), {"H": 9}, "the other sizes need numbers: W"),
        ((B, "1 GB"), {"H": 9, "W": 9, "B": 3}, "B is what is asked for"),
        ((B, 100), {"H": 9, "W": 9}, "no B fits into 100 bytes"),
        (("C", "1 GB"), {}, "no size `C`"),
        ((B, "much"), {}, "bytes as an integer"),
        ((B, -1), {}, "bytes as an integer"),
    ],
)
def test_what_max_dim_refuses(args: Any, named: dict[str, int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        windowed().max_dim(*args, **named)


def test_max_dim_needs_a_peak_that_grows_without_end() -> None:
    x = sg.tensor("x", (3,))
    found = sg.cost(sg.broadcast_to(x, (B, 3)).sum())
    assert found.flops is 3 * B
    with pytest.raises(ArgumentError, match="the peak memory does not depend on B"):
        found.max_dim(B, "1 GB")
    with pytest.raises(ArgumentError, match="every B fits"):
        sg.cost(sg.exp(sg.tensor("x", (sg.dims.minimum(B, 5),)))).max_dim(B, 40)


# -- the critical path -----------------------------------------------------------------------------


def test_the_critical_path_is_the_dearest_chain_not_the_longest_or_the_greedy_one() -> None:
    x = sg.tensor("x", (B, 100))
    cheap = sg.exp(chain(x.sum(axis=1), 20))  # the most nodes
    start = chain(x, 3)  # what a greedy walk up from the outputs would leave for `tempting`
    left = sg.matmul(chain(start, 2), sg.tensor("w", (100, 10)))
    tempting = sg.matmul(x, sg.tensor("v", (100, 10)))  # its last step costs the same, then nothing
    y = (left + tempting).sum(axis=1) + cheap
    found = sg.cost(y).critical_path(B=50)
    names = [value.op.name for value in found.values if not value.op.leaf]
    assert names == [*["sin"] * 5, "matmul", "add", "sum", "add"]
    assert found.flops == 5 * 5000 + 2 * 50 * 100 * 10 + 500 + 500 + 50
    total = sg.cost(y).evaluate(B=50).flops
    assert found.flops < total


def test_random_numbers_are_on_the_path_with_their_own_cost() -> None:
    found = sg.cost(sg.random.normal((B, 10)))
    path = found.critical_path(B=3)
    assert path.values[-1].op.name == "random_normal"
    assert path.flops == found.evaluate(B=3).flops > 30


# -- size ------------------------------------------------------------------------------------------


def test_twenty_thousand_values_in_a_chain() -> None:
    x = sg.tensor("x", (B, 2))
    found = sg.cost(chain(x, 20_000))
    assert found.flops is 40_000 * B
    assert found.peaks == (24 * B,)
    assert len(found.critical_path(B=2).values) == 20_001


def test_a_value_squared_two_hundred_times() -> None:
    e = sg.tensor("x", (B,), "float64")
    for _ in range(200):
        e = e * e
    found = sg.cost(e)
    assert found.flops is 200 * B
    assert found.read is 1600 * B
    assert found.peaks == (24 * B,)


def test_thousands_of_sizes() -> None:
    xs = [sg.vector(f"x{i}") for i in range(3000)]
    found = sg.cost([sg.exp(x) for x in xs])
    assert len(found.sizes) == 3000
    assert found.evaluate(dict.fromkeys(found.sizes, 2)).peak == 3000 * 16


# -- the table -------------------------------------------------------------------------------------


def test_the_table_is_short_and_says_where() -> None:
    found = sg.cost([sg.exp(chain(sg.tensor(f"x{i}", (B, i + 1)), 3)) for i in range(30)])
    lines = str(found).splitlines()
    assert len(lines) <= 24
    assert lines[0] == "cost of 150 values, for the size B"
    assert "at least" in lines[5]
    assert "test_report.py" in str(found)
    assert "108 others" in lines[-1]
    assert all(len(line) < 160 for line in lines)
    assert "&lt;" not in found._repr_html_()
    assert found._repr_html_().startswith("<pre>cost of 150")
    assert repr(found).startswith("<cost of 150 values:")


def test_a_formula_with_many_terms_is_cut() -> None:
    sizes = sg.dims.dims(" ".join(f"s{i}" for i in range(9)))
    text = str(sg.cost([sg.exp(sg.tensor(f"x{i}", (s,))) for i, s in enumerate(sizes)]))
    assert "+ 5 more" in text
