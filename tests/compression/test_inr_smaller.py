"""Networks of images pruned and rounded: what is kept, what it costs, what fitting again brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.compression import Course, Fitting, Smaller, encode, smaller
from symgraph.compression.inr_lanes import largest_of
from symgraph.data import InrLayer, InrSet, Siren, measured, open_inr, quantised
from symgraph.errors import ArgumentError, DataError
from tests.compression.test_inr import picture

SIREN = Siren(layers=3, width=8, omega=10.0)
ORIGINALS = [picture(8, 8, number) for number in range(3)]
SHORT = {"steps": 60, "rate": 2e-3}


@pytest.fixture(scope="module")
def images() -> InrSet:
    return encode(ORIGINALS, SIREN, Fitting(steps=120, rate=2e-2), labels=[2, 0, 1])


def rounded(images: InrSet, kind: str, kept: int | None = None) -> InrSet:
    """Pruned and rounded at once, without fitting again."""
    ends = {"mixed": "float16"}.get(kind, kind)
    layers: list[InrLayer] = []
    for k, layer in enumerate(images.layers):
        hidden = 0 < k < len(images.layers) - 1
        weight, bias = layer.floats()
        if kept is not None and hidden:
            weight = weight * largest_of(weight, kept)
        dtype = "int8" if kind == "mixed" and hidden else ends
        layers.append(quantised(weight, bias, dtype, kept if hidden else None))
    cut = InrSet(
        images.siren, tuple(layers), images.sizes, images.labels, images.classes, images.errors
    )
    return measured(cut, ORIGINALS)


def test_rounded_networks_are_fitted_to_their_rounding(images: InrSet) -> None:
    made = smaller(images, ORIGINALS, Smaller("int8", **SHORT))  # type: ignore[arg-type]
    assert [str(layer.weight.dtype) for layer in made.layers] == ["int8"] * 4
    assert [str(layer.bias.dtype) for layer in made.layers] == ["float16"] * 4
    assert made.labels.tolist() == [2, 0, 1]
    # what is stored gives the errors that were fitted
    np.testing.assert_allclose(measured(made, ORIGINALS).errors, made.errors, rtol=0.05)
    assert made.errors.mean() < rounded(images, "int8").errors.mean()
    assert made.stored < 0.4 * images.stored


@pytest.mark.parametrize("pruning", ["iterative", "dynamic"])
def test_pruned_networks_are_fitted_again(images: InrSet, pruning: str, tmp_path: Path) -> None:
    how = Smaller("mixed", sparsity=0.5, pruning=pruning, rounds=2, **SHORT)  # type: ignore[arg-type]
    made = smaller(images, ORIGINALS, how)
    assert [layer.kept for layer in made.layers] == [None, 32, 32, None]
    kinds = [str(layer.weight.dtype) for layer in made.layers]
    assert kinds == ["float16", "int8", "int8", "float16"]
    for layer in made.layers[1:3]:
        assert (np.count_nonzero(layer.weight, axis=(1, 2)) <= 32).all()
    assert made.errors.mean() < 0.7 * rounded(images, "mixed", 32).errors.mean()
    found = open_inr(made.save(tmp_path / "set.safetensors"))
    np.testing.assert_allclose(measured(found, ORIGINALS).errors, made.errors, rtol=0.05)


def test_fitting_again_does_not_make_it_worse(images: InrSet) -> None:
    made = smaller(images, ORIGINALS, Smaller("float16", **SHORT))  # type: ignore[arg-type]
    assert (made.errors <= 1.02 * rounded(images, "float16").errors).all()


def test_it_goes_on_where_it_was_cut_off(images: InrSet, tmp_path: Path) -> None:
    how = Smaller("int8", sparsity=0.5, rounds=1, steps=40)

    def kill(course: Course) -> None:
        if len(list(tmp_path.iterdir())) == 2 and course.steps >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        smaller(images, ORIGINALS, how, folder=tmp_path, every=0.0, watch=kill)
    seen: list[Course] = []
    options: dict[str, Any] = {"folder": tmp_path, "every": 0.0}
    again = smaller(images, ORIGINALS, how, watch=seen.append, **options)
    assert not seen  # both rounds were done when it was stopped
    np.testing.assert_array_equal(again.errors, smaller(images, ORIGINALS, how).errors)
    with pytest.raises(DataError, match="other images, or with other settings"):
        smaller(rounded(images, "float16"), ORIGINALS, how, folder=tmp_path)


def test_what_is_pruned_stays_pruned(images: InrSet) -> None:
    pruned = smaller(images, ORIGINALS, Smaller("float32", sparsity=0.75, rounds=1, steps=2))
    again = smaller(pruned, ORIGINALS, Smaller("int8", steps=2))
    assert [layer.kept for layer in again.layers] == [None, 16, 16, None]
    for layer in again.layers[1:3]:
        assert (np.count_nonzero(layer.weight, axis=(1, 2)) <= 16).all()
    less = smaller(pruned, ORIGINALS, Smaller("float32", sparsity=0.5, rounds=1, steps=2))
    assert [layer.kept for layer in less.layers] == [None, 16, 16, None]


def test_the_share_grows_over_all_rounds(images: InrSet) -> None:
    seen: list[Course] = []
    smaller(images, ORIGINALS, Smaller("int8", sparsity=0.5, rounds=1, steps=40), watch=seen.append)
    assert {(course.round, course.rounds) for course in seen} == {(1, 2), (2, 2)}
    shares = [course.share for course in seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.25, 1.0)


def test_the_largest_are_kept() -> None:
    weights = np.array([[[3.0, -5], [1, 0]], [[0, 0], [0, 0]]], np.float32)
    assert largest_of(weights, 2).tolist() == [
        [[True, True], [False, False]], [[True, True], [False, False]]
    ]  # fmt: skip


def test_rounds_go_by_the_same_share_of_what_is_left() -> None:
    tasks = Smaller(sparsity=0.75, rounds=2).tasks(Siren(layers=2, width=8))
    assert [task.kept for task in tasks] == [(None, n, None) for n in (32, 16, 16)]
    assert [task.dtypes[1] for task in tasks] == ["float32", "float32", "int8"]
    (plain,) = Smaller("int8").tasks(SIREN)
    assert plain.kept == (None,) * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "int4"}, "kind must be one of float32, float16, mixed, int8"),
        ({"pruning": "random"}, "pruning must be one of iterative, dynamic"),
        ({"sparsity": 1.0}, r"sparsity must be a share in \[0, 1\)"),
        ({"rounds": 0}, r"rounds must lie in 1 \.\. 100"),
        ({"steps": 0}, r"steps must be an int in 1 \.\. 2"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Smaller(**options)


def test_what_does_not_fit_is_named(images: InrSet) -> None:
    with pytest.raises(DataError, match="image 1 is 6 x 10, in the set it is 8 x 8"):
        smaller(images, [ORIGINALS[0], picture(6, 10), ORIGINALS[2]])
    shape = Siren(layers=1, width=4)
    layers = [
        quantised(np.zeros((1, *size), np.float32), np.zeros((1, size[0]), np.float32), "float32")
        for size in shape.sizes
    ]
    one = InrSet(
        shape, tuple(layers), np.array([[8, 8]], np.int32), np.zeros(1, np.int32), ("a",),
        np.ones(1, np.float32),
    )  # fmt: skip
    with pytest.raises(ArgumentError, match="has no hidden matrix that could be pruned"):
        smaller(one, ORIGINALS[:1], Smaller(sparsity=0.5))
