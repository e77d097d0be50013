"""`FlattenedConv` against SciPy, and against the dense convolution that it can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import signal

import symgraph as sg
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.nn import Conv2d, FlattenedConv


def run(layer: sg.nn.Module, feed: np.ndarray) -> np.ndarray:
    x = sg.tensor("x", (sg.dim("B"), feed.shape[1], sg.dim("H"), sg.dim("W")), str(feed.dtype))
    return layer(x).eval({x: feed})


def drawn(rng: np.random.Generator, layer: sg.nn.Module) -> sg.nn.Module:
    """Give all weights and biases numbers of one size, which shows every mistake alike."""
    for variable in layer.parameters():
        variable.value = rng.normal(size=variable.shape).astype(variable.dtype)
    return layer


def product(flat: FlattenedConv) -> np.ndarray:
    """Give the dense filters of one stage without groups, in float64."""
    ((lateral, vertical, horizontal),) = flat.stages
    parts = [one.weight.value.astype(float) for one in (lateral, vertical, horizontal)]
    a, b, c = parts[0][:, :, 0, 0], parts[1][:, 0, :, 0], parts[2][:, 0, 0, :]
    return np.einsum("oc,oi,oj->ocij", a, b, c)


def test_two_stages_are_six_convolutions_of_scipy(rng: np.random.Generator) -> None:
    flat = drawn(rng, FlattenedConv(2, 3, (3, 5), padding="valid"))
    feed = rng.normal(size=(2, 2, 6, 9)).astype(np.float32)
    value = feed.astype(float)
    for stage, (lateral, vertical, horizontal) in enumerate(flat.stages):
        mode = "valid" if stage else "same"
        value = np.einsum("ncyx,oc->noyx", value, lateral.weight.value[:, :, 0, 0])
        value = value + lateral.bias.value[:, None, None]
        for conv in (vertical, horizontal):
            filters = conv.weight.value.astype(float)
            value = np.stack(
                [
                    [signal.correlate(plane, filters[o, 0], mode) for o, plane in enumerate(image)]
                    for image in value
                ]
            )
            value = value + conv.bias.value[:, None, None]
    found = run(flat, feed)
    assert found.shape == (2, 3, 4, 5)
    np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        (5, {"padding": 2}),
        ((3, 4), {"padding": "valid", "stride": (2, 1)}),
        ((4, 3), {"padding": "same", "stride": 2}),
        (3, {"padding": ((1, 0), (2, 1)), "dilation": (2, 1)}),
        (3, {"padding": (2, 2), "stride": 3}),
    ],
)
def test_one_stage_is_a_dense_convolution_of_rank_one(
    rng: np.random.Generator, kernel: Any, options: dict[str, Any]
) -> None:
    flat = drawn(rng, FlattenedConv(3, 4, kernel, stages=1, inner_bias=None, **options))
    dense = Conv2d(3, 4, kernel, **options)
    dense.weight.value = product(flat).astype(np.float32)
    dense.bias.value = flat.horizontal[0].bias.value
    x = sg.tensor("x", (2, 3, 9, 8))
    left, right = flat(x), dense(x)
    assert left.shape == right.shape
    weight = sg.constant(rng.normal(size=left.shape).astype(np.float32))
    feed = rng.normal(size=(2, 3, 9, 8)).astype(np.float32)
    wanted = [right, sg.grad((right * weight).sum(), x)]
    found = [left, sg.grad((left * weight).sum(), x)]
    for ours, theirs in zip(*(sg.function([x], each)(feed) for each in (found, wanted))):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_gradients_of_the_vectors_are_those_of_the_product(rng: np.random.Generator) -> None:
    """Of a dense filter a b c: da = dW . b c, db = dW . a c, dc = dW . a b."""
    with sg.config(float_dtype="float64"):
        flat = drawn(rng, FlattenedConv(3, 4, 3, stages=1, padding=1, inner_bias=None))
        dense = Conv2d(3, 4, 3, padding=1)
    dense.weight.value = product(flat)
    dense.bias.value = flat.horizontal[0].bias.value
    x = sg.tensor("x", (2, 3, 6, 5), "float64")
    feed = rng.normal(size=x.shape)
    losses = [(layer(x) ** 2).sum() for layer in (flat, dense)]
    whole, bias = sg.function([x], sg.grad(losses[1], dense.parameters()))(feed)
    (stage,) = flat.stages
    weights = [conv.weight for conv in stage]
    found = sg.function([x], sg.grad(losses[0], [*weights, flat.horizontal[0].bias]))(feed)
    a, b, c = (one.value.reshape(4, -1) for one in weights)
    wanted = [
        np.einsum("ocij,oi,oj->oc", whole, b, c),
        np.einsum("ocij,oc,oj->oi", whole, a, c),
        np.einsum("ocij,oc,oi->oj", whole, a, b),
        bias,
    ]
    for ours, theirs in zip(found, wanted):
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=1e-10)


def test_all_stages_are_one_dense_convolution_inside_an_image(rng: np.random.Generator) -> None:
    flat = drawn(rng, FlattenedConv(2, 3, (3, 4), stages=2, inner_bias=None, bias=None))
    filters = flat.dense_filters()
    assert filters.shape == (3, 2, 5, 7)
    feed = rng.normal(size=(1, 2, 12, 14)).astype(np.float32)
    wanted = sg.conv2d(sg.constant(feed), filters).eval()
    found = run(flat, feed)  # whose first stage pads: by 1 before, and by 1 before and 2 after
    np.testing.assert_allclose(found[:, :, 1:-1, 1:-2], wanted, rtol=1e-3, atol=1e-3)


def test_full_padding_sees_every_place_that_meets_the_image() -> None:
    flat = FlattenedConv(1, 1, (3, 2), stages=1, padding="full", dilation=(2, 1))
    assert flat(sg.tensor("x", (1, 1, 7, 7))).shape == (1, 1, 7 + 4, 7 + 1)


def test_groups_keep_to_their_channels(rng: np.random.Generator) -> None:
    flat = drawn(rng, FlattenedConv(4, 6, 3, padding=1, groups=2))
    feed = rng.normal(size=(1, 4, 5, 5)).astype(np.float32)
    before = run(flat, feed)
    feed[:, 2:] += 1
    after = run(flat, feed)
    assert (before[:, :3] == after[:, :3]).all()
    assert (before[:, 3:] != after[:, 3:]).any()


def test_biases_can_be_left_out() -> None:
    assert len(FlattenedConv(2, 2, 3).parameters("bias")) == 6
    assert len(FlattenedConv(2, 2, 3, bias=None).parameters("bias")) == 5
    assert FlattenedConv(2, 2, 3, bias=None, inner_bias=None).parameters("bias") == []


def test_signals_keep_their_size_through_a_deep_chain(rng: np.random.Generator) -> None:
    sg.seed(3)
    layers = [FlattenedConv(64, 64, 5, padding=2) for _ in range(3)]
    feed = rng.normal(size=(1, 64, 12, 12)).astype(np.float32)
    y = run(sg.nn.Sequential(*(f for one in layers for f in (one, sg.relu))), feed)
    assert 0.05 < (y**2).mean() < 20


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((2, 2, 3), {"stages": 0}, ArgumentError, "stages must be >= 1, got 0"),
        ((2, 2, 3), {"stages": 1.5}, ArgumentTypeError, "stages must be an int"),
        ((2, 2, 0), {}, ArgumentError, "kernel must be an int >= 1"),
        ((2, 2, 3), {"stride": 0}, ArgumentError, "stride must be an int >= 1"),
        ((2, 2, 3), {"padding": -1}, ArgumentError, "padding must be >= 0"),
        ((2, 2, 3), {"padding": "ful"}, ArgumentError, '"full"'),
        ((3, 2, 3), {"groups": 2}, ArgumentError, "groups must divide both"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: Any, options: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        FlattenedConv(*arguments, **options)
