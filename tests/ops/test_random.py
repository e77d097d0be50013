"""Random values: published vectors, equal bits everywhere, distributions, streams, dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

import symgraph as sg
from symgraph.config import config
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    GradError,
    GuardError,
    ShapeError,
)
from symgraph.graph.index import Compute, axes, evaluate, m
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value, make
from symgraph.graph.philox import philox4x32
from symgraph.graph.registry import F
from symgraph.graph.samplers import CENTRE, natural_log, normal_quantile
from symgraph.graph.scalar import NumpyMath, const
from symgraph.ops import random
from symgraph.ops.random import RandomBernoulli, RandomNormal, RandomUniform, Stream

FLOATS = ("float32", "float64", "float16", "bfloat16")
KINDS = [(RandomUniform, dtype) for dtype in FLOATS] + [(RandomNormal, dtype) for dtype in FLOATS]


def state(seed: int = 1, step: int = 0, offset: int = 0) -> Any:
    return np.array([seed, step, offset], np.uint64)


def bits(array: Any) -> bytes:
    return np.ascontiguousarray(array).tobytes()


# -- the generator ---------------------------------------------------------------------------------

# the known answers that the authors publish with Random123, for philox4x32 with 10 rounds
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "answer"), VECTORS)
def test_published_vectors(counter: str, key: str, answer: str) -> None:
    numbers = [int(word, 16) for word in f"{counter} {key}".split()]
    expected = [int(word, 16) for word in answer.split()]
    arrays = [np.array([number], np.uint32) for number in numbers]
    assert [int(word[0]) for word in philox4x32(*arrays)] == expected
    words = m.philox(*(const(number, "uint32") for number in numbers))
    assert [int(evaluate(Compute((), word), [], {})[0]) for word in words] == expected


def test_words_stand_where_the_docs_say() -> None:
    """Seed, step and key of the node 0: the block of the first vector, four words in order."""
    words = [int(word, 16) for word in VECTORS[0][2].split()]
    found = RandomUniform((4,), "float32", 0, False).ref(np, state(0))
    np.testing.assert_array_equal(found, [(word >> 8) / 2**24 for word in words])
    pair = RandomUniform((2,), "float64", 0, False).ref(np, state(0))
    expected = [((a >> 5) * 2**26 + (b >> 6)) / 2**53 for a, b in (words[:2], words[2:])]
    np.testing.assert_array_equal(pair, expected)


def test_every_part_of_the_address_matters() -> None:
    def draw(node: int = 0, seed: int = 1, step: int = 0) -> Any:
        return RandomUniform((1000,), "float64", node, False).ref(np, state(seed, step))

    draws = [draw(), draw(node=1), draw(seed=2), draw(seed=1 + 5 * 2**32), draw(step=1)]
    draws += [draw(step=2**32), draw(step=2**33), draw(node=2**32 - 1)]
    assert len({bits(each) for each in draws}) == len(draws)
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 0.12  # 3.8 standard deviations


# -- equal bits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_expression_and_reference_have_equal_bits(kind: Any, dtype: str, by_row: bool) -> None:
    leaf = tensor("state", (3,), "uint64")
    for shape in ((67, 5), (1, 3), (0, 2)):
        op = kind(shape, dtype, 9, by_row)
        expansion = op.expand(F, leaf)
        assert isinstance(expansion, Compute)
        numbers = state(2**63 + 11, 2**40 + 3, 13)
        (found,) = evaluate(expansion, [numbers], {})
        assert bits(found) == bits(op.ref(np, numbers))


def test_bools_have_equal_bits() -> None:
    op = RandomBernoulli((333, 3), "bool", 2, True, 12345678)
    expansion = op.expand(F, tensor("state", (3,), "uint64"))
    assert isinstance(expansion, Compute)
    (found,) = evaluate(expansion, [state(offset=7)], {})
    assert bits(found) == bits(op.ref(np, state(offset=7)))


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_rows_do_not_depend_on_how_a_batch_is_split(kind: Any, dtype: str) -> None:
    whole = kind((23, 3, 7), dtype, 4, True).ref(np, state())
    for cut in (1, 8, 22):
        first = kind((cut, 3, 7), dtype, 4, True).ref(np, state())
        second = kind((23 - cut, 3, 7), dtype, 4, True).ref(np, state(offset=cut))
        assert bits(np.concatenate([first, second])) == bits(whole)


@pytest.mark.parametrize("dtype", FLOATS)
def test_blocks_do_not_change_the_bits(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op = RandomNormal((11, 13), dtype, 4, True)
    whole = op.ref(np, state(offset=1))
    monkeypatch.setattr(random, "BLOCK", 10)
    assert bits(op.ref(np, state(offset=1))) == bits(whole)


def test_elements_do_not_depend_on_the_size() -> None:
    small = RandomNormal((10,), "float32", 0, False).ref(np, state())
    large = RandomNormal((4, 10), "float32", 0, False).ref(np, state())
    np.testing.assert_array_equal(small, large[0])


# -- distributions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_numbers_are_even(dtype: str) -> None:
    drawn = RandomUniform((200_000,), dtype, 3, False).ref(np, state(5))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert scipy.stats.kstest(drawn.astype(np.float64), "uniform").pvalue > 0.01


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_numbers_are_normal(dtype: str) -> None:
    drawn = RandomNormal((200_000,), dtype, 3, False).ref(np, state(5)).astype(np.float64)
    assert scipy.stats.kstest(drawn, "norm").pvalue > 0.01
    assert drawn.mean() == pytest.approx(0, abs=4 / np.sqrt(drawn.size))
    assert drawn.var() == pytest.approx(1, abs=4 * np.sqrt(2 / drawn.size))
    tail = (np.abs(drawn) > 3).sum() / drawn.size
    assert tail == pytest.approx(2 * scipy.stats.norm.sf(3), rel=0.2)


@pytest.mark.parametrize(("dtype", "bits_of"), [("float16", 11), ("bfloat16", 8)])
def test_half_uniform_numbers_hit_every_value(dtype: str, bits_of: int) -> None:
    drawn = RandomUniform((100_000,), dtype, 3, False).ref(np, state(5)).astype(np.float64)
    counts = np.bincount((drawn * 2**bits_of).astype(int), minlength=2**bits_of)
    assert len(counts) == 2**bits_of
    assert scipy.stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("p", [0.001, 0.3, 0.5])
def test_bools_have_their_probability(p: float) -> None:
    value = Stream(3).bernoulli((100_000,), p)
    hits = int(interpret([value], {})[0].sum())
    assert scipy.stats.binomtest(hits, 100_000, p).pvalue > 0.01


def test_certain_bools() -> None:
    stream = Stream(3)
    never, always = stream.bernoulli((1000,), 0), stream.bernoulli((1000,), 1.0)
    found = interpret([never, always], {})
    assert not found[0].any()
    assert found[1].all()


def test_neighbours_are_independent() -> None:
    drawn = RandomNormal((100_000,), "float32", 3, False).ref(np, state(5)).astype(np.float64)
    for lag in (1, 2, 3, 4, 5):
        assert abs(np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]) < 4 / np.sqrt(drawn.size)


# -- the samplers' own functions -------------------------------------------------------------------

TAILS = {"float32": 33, "float64": 54}


@pytest.mark.parametrize("dtype", list(TAILS))
def test_logarithm_to_the_last_place(dtype: str) -> None:
    halvings = np.random.default_rng(0).uniform(0, TAILS[dtype], 50_000)
    x = np.exp2(-halvings).astype(dtype)
    exact = np.log(x.astype(np.longdouble))
    found = natural_log(NumpyMath(np), dtype, x)
    assert found.dtype == dtype
    epsilon = np.finfo(dtype).eps
    assert np.all(np.abs(found - exact) <= 1.5 * epsilon * np.abs(exact) + epsilon * 1e-2)


@pytest.mark.parametrize("dtype", list(TAILS))
def test_normal_quantile_to_a_few_last_places(dtype: str) -> None:
    halvings = np.random.default_rng(0).uniform(1, TAILS[dtype], 50_000)
    edges = [0.5, 0.075, np.nextafter(0.075, 0), 2.0 ** -TAILS[dtype]]
    tail = np.concatenate([np.exp2(-halvings), edges]).astype(dtype)
    exact = -scipy.special.ndtri(tail.astype(np.float64))
    found = normal_quantile(NumpyMath(np), dtype, tail)
    assert np.all(np.abs(found - exact) <= 8 * np.finfo(dtype).eps * np.maximum(exact, 0.1))
    assert set(CENTRE) == set(TAILS)


# -- functions -------------------------------------------------------------------------------------


def test_uniform_between_two_numbers() -> None:
    stream = Stream(4)
    plain, moved = stream.uniform((1000,)), stream.uniform((1000,), -3, 5, dtype="float64")
    low = tensor("low", (), "float64")
    symbolic = stream.uniform((1000,), low, low + 1, dtype="float64")
    assert (plain.dtype, moved.dtype, symbolic.dtype) == ("float32", "float64", "float64")
    found = interpret([moved, symbolic], {low: np.array(7.0)})
    assert -3 <= found[0].min() < -2.8
    assert 4.8 < found[0].max() < 5
    assert found[1].min() >= 7
    assert found[1].max() < 8


def test_normal_with_moments() -> None:
    found = interpret([Stream(4).normal((100_000,), 10, 0.5)], {})[0]
    assert found.dtype == np.float32
    assert scipy.stats.kstest(found.astype(np.float64), scipy.stats.norm(10, 0.5).cdf).pvalue > 0.01


def test_bools_with_symbolic_probability() -> None:
    p = tensor("p", (2,))
    value = Stream(4).bernoulli((10_000, 2), p)
    found = interpret([value], {p: np.array([0.0, 0.25], np.float32)})[0]
    assert not found[:, 0].any()
    assert found[:, 1].mean() == pytest.approx(0.25, abs=0.02)


def test_symbolic_shape() -> None:
    batch = sg.dim("B")
    value = Stream(4).uniform((batch, 3), by_row=True)
    large, small = (interpret([value], {}, {batch: rows})[0] for rows in (5, 2))
    assert large.shape == (5, 3)
    np.testing.assert_array_equal(small, large[:2])


def test_random_values_have_no_gradient() -> None:
    stream = Stream(4)
    with pytest.raises(GradError):
        F.grad(F.sum(stream.normal((3,))), tensor("x", ()))
    scale = tensor("scale", ())
    slope = F.grad(F.sum(stream.normal((3,), 0, scale)), scale)  # by the scale there is one
    assert np.isfinite(interpret([slope], {scale: np.float32(1)})[0])


def test_wrong_arguments() -> None:
    with pytest.raises(DTypeError, match="uniform: the dtype must be a float, not int32"):
        F.uniform((2,), dtype="int32")
    with pytest.raises(ArgumentError, match=r"bernoulli: p must be from 0 to 1, got 1\.5"):
        F.bernoulli((2,), 1.5)
    with pytest.raises(ArgumentError, match="p must be from 0 to 1, got nan"):
        F.bernoulli((2,), float("nan"))
    with pytest.raises(ArgumentTypeError, match="bernoulli: p must be a number"):
        F.bernoulli((2,), "half")
    with pytest.raises(ShapeError, match="normal: -1 in"):
        F.normal((2, -1))
    with pytest.raises(ShapeError, match="by_row needs an axis of rows"):
        F.normal((), by_row=True)


# -- streams ---------------------------------------------------------------------------------------


def test_each_call_of_a_function_is_a_step() -> None:
    stream = Stream(8)
    draw = sg.function([], [stream.uniform((3,)), stream.normal((2,))])
    first, second = draw(), draw()
    assert stream.state() == {"seed": 8, "step": 2, "offset": 0}
    assert not np.array_equal(first[0], second[0])
    stream.set_state({"seed": 8, "step": 0, "offset": 0})
    again = draw()
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)


def test_functions_that_draw_nothing_do_not_step() -> None:
    stream = Stream(8)
    x = sg.scalar("x")
    stream.uniform((3,))
    sg.function([x], x + 1)(1.0)
    assert stream.state()["step"] == 0


def test_the_same_program_gives_the_same_numbers() -> None:
    def program() -> Any:
        sg.seed(77)
        first, second = F.normal((4,)), F.normal((4,))
        return sg.function([], [first, second])()

    one, other = program(), program()
    assert bits(one[0]) == bits(other[0])
    assert bits(one[1]) == bits(other[1])
    assert bits(one[0]) != bits(one[1])


def test_a_checkpoint_continues_bit_for_bit() -> None:
    stream = Stream(2**64 - 1)
    draw = sg.function([], stream.normal((5,)))
    draw()
    saved = stream.state()
    assert all(type(number) is int for number in saved.values())
    expected = [draw(), draw()]
    other = Stream(0)
    other_draw = sg.function([], other.normal((5,)))
    other.set_state(saved)
    for wanted in expected:
        np.testing.assert_array_equal(other_draw(), wanted)


def test_workers_with_offsets_draw_what_one_would() -> None:
    batch = sg.dim("B")
    x = sg.tensor("x", (batch, 4))
    outputs = []
    for rows, offset in ((6, 0), (4, 0), (2, 4)):
        stream = Stream(5)
        stream.offset = offset
        assert stream.offset == offset
        f = sg.function([x], F.dropout(x, 0.5, stream=stream))
        outputs.append(f(np.ones((rows, 4), np.float32)))
    np.testing.assert_array_equal(outputs[0], np.concatenate(outputs[1:]))


def test_streams_without_a_seed_take_the_setting_or_a_fresh_one() -> None:
    with config(seed=31):
        assert Stream().state()["seed"] == 31
    with config(seed=None):
        assert Stream().state()["seed"] != Stream().state()["seed"]


def test_the_default_stream_is_seeded_by_one_function() -> None:
    sg.seed(123)
    assert F.default_stream().state() == {"seed": 123, "step": 0, "offset": 0}
    assert F.default_stream() is F.default_stream()


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range(seed: int) -> None:
    with pytest.raises(ArgumentError, match=rf"seed must be from 0 to 2\*\*64 - 1, got {seed}"):
        Stream(seed)


def test_wrong_states() -> None:
    stream = Stream(1)
    with pytest.raises(ArgumentError, match="needs seed, step, offset, got seed"):
        stream.set_state({"seed": 1})
    with pytest.raises(ArgumentError, match="step must be from 0"):
        stream.set_state({"seed": 1, "step": -1, "offset": 0})
    with pytest.raises(ArgumentTypeError, match="offset must be an int"):
        stream.set_state({"seed": 1, "step": 1, "offset": 0.5})  # type: ignore[dict-item]
    assert stream.state() == {"seed": 1, "step": 0, "offset": 0}


def test_a_value_is_drawn_once_in_a_graph() -> None:
    value = Stream(1).normal((100,))
    found = interpret([value, value - value], {})
    np.testing.assert_array_equal(found[1], 0)
    again = make(value.inputs[0].op, *value.inputs[0].inputs)
    assert again is value.inputs[0]


# -- dropout ---------------------------------------------------------------------------------------


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def test_dropout_keeps_the_mean_and_its_gradient_is_its_mask() -> None:
    x = tensor("x", (200, 100))
    y = F.dropout(x, 0.2, stream=Stream(6))
    found, slope = interpret([y, F.grad(F.sum(y), x)], {x: ones(200, 100)})
    assert set(np.unique(found)) == {np.float32(0), np.float32(1 / 0.8)}
    assert found.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(slope, found)


def test_published_dropout_keeps_the_mean_between_training_and_test() -> None:
    x = tensor("x", (200, 100))
    train = F.dropout(x, 0.5, inverted=False, stream=Stream(6))
    test = F.dropout(x, 0.5, False, inverted=False, stream=Stream(6))
    found = interpret([train, test], {x: ones(200, 100)})
    assert set(np.unique(found[0])) == {0, 1}
    np.testing.assert_array_equal(found[1], 0.5)
    assert found[0].mean() == pytest.approx(0.5, abs=0.02)


def test_dropout_that_does_nothing_is_nothing() -> None:
    x = tensor("x", (2, 3))
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 0.5, train=False) is x


def test_a_dropped_infinity_is_zero() -> None:
    x = tensor("x", (1000,))
    y = F.dropout(x, 0.5, stream=Stream(6))
    found = interpret([y], {x: np.full(1000, np.inf, np.float32)})[0]
    assert not np.isnan(found).any()
    assert (found == 0).any()


def test_one_function_with_a_switch() -> None:
    flag = sg.shared(True, "training")
    x = tensor("x", (50,))
    f = sg.function([x], F.dropout(x, 0.5, flag, inverted=False, stream=Stream(6)))
    assert (f(ones(50)) == 0).any()
    flag.value = False
    np.testing.assert_array_equal(f(ones(50)), 0.5)


def test_dropout_in_half_precision() -> None:
    x = tensor("x", (100,), "float16")
    y = F.dropout(x, 0.3, stream=Stream(6))
    found = interpret([y], {x: np.ones(100, np.float16)})[0]
    assert found.dtype == np.float16
    assert set(np.unique(found)) <= {np.float16(0), np.float16(1 / 0.7)}


def test_wrong_dropout() -> None:
    x = tensor("x", (2, 3))
    with pytest.raises(ArgumentError, match=r"dropout: rate must be in \[0, 1\), got 1"):
        F.dropout(x, 1)
    with pytest.raises(ArgumentTypeError, match="dropout: rate must be a number"):
        F.dropout(x, tensor("rate", ()))
    with pytest.raises(DTypeError, match="dropout: takes floats, not int64"):
        F.dropout(tensor("x", (2,), "int64"))
    with pytest.raises(ArgumentTypeError, match="train must be one bool, got int32") as info:
        F.dropout(x, 0.5, tensor("flag", (), "int32"))
    assert "test_random.py:" in str(info.value)


def test_expression_of_a_symbolic_shape() -> None:
    batch = sg.dim("B")
    op = RandomUniform((batch, 3), "float32", 0, True)
    expansion = op.expand(F, tensor("state", (3,), "uint64"))
    assert isinstance(expansion, Compute)
    assert len(expansion.axes) == len(axes(op.shape))
    (found,) = evaluate(expansion, [state(offset=4)], {batch: 6})
    expected = op.at({batch: 6}).ref(np, state(offset=4))
    np.testing.assert_array_equal(found, expected)


def drawn(value: Value) -> Any:
    return interpret([value], {})[0]


def test_two_streams_of_one_seed_agree() -> None:
    assert bits(drawn(Stream(1).normal((3,)))) == bits(drawn(Stream(1).normal((3,))))


def test_scalars_of_random_bodies_check_their_types() -> None:
    word, number = const(7, "uint32"), const(1.0, "float64")
    with pytest.raises(DTypeError, match="bitcast of float64 to uint32: the widths differ"):
        m.bitcast(number, "uint32")
    with pytest.raises(DTypeError, match="philox takes 6 uint32 words"):
        m.philox(word, word)
    pattern = m.bitcast(const(-2.0, "float32"), "uint32")
    assert int(evaluate(Compute((), pattern), [], {})[0]) == 0xC0000000


# -- parameters ------------------------------------------------------------------------------------


def test_a_shape_in_numpys_place_is_refused() -> None:
    for draw in (sg.random.normal, sg.random.uniform, sg.random.laplace, sg.random.gumbel):
        with pytest.raises(ArgumentTypeError, match=r"the shape comes first, \w+\(\(2, 3\)"):
            draw(0, 1, (3,))  # in NumPy's order: it would be no number at all


def test_a_parameter_has_an_element_for_each_number_at_most() -> None:
    means = np.arange(6, dtype=np.float32).reshape(2, 3)
    for shape in ((), (3,), (2, 1), (4, 3)):
        with pytest.raises(ShapeError, match=r"mean, float32\[2, 3\], must fit the shape"):
            sg.random.normal(shape, means)  # several elements would share a draw
    found = sg.random.normal((500, 2, 3), means, 0.01).eval()
    np.testing.assert_allclose(found.mean(axis=0), means, atol=0.01)
    b = sg.tensor("b", (sg.dim("B"),))
    f = sg.function([b], sg.random.uniform((3,), b, b + 1), backend="reference")
    assert (np.floor(f([5.0, 6.0, 7.0])) == [5, 6, 7]).all()
    with pytest.raises(GuardError, match="B"):
        f([5.0, 6.0])
