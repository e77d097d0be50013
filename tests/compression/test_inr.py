"""Images as small networks: values against NumPy, sizes, slots, targets, resumption, bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.compression import Course, Fitting, encode
from symgraph.data.inrset import InrSet
from symgraph.data.siren import Siren, extent, grid
from symgraph.errors import ArgumentError, ArgumentTypeError, CheckpointError, DataError
from symgraph.io import load_checkpoint, save_checkpoint

SMALL = Siren(layers=2, width=8, omega=10.0)
QUICK = Fitting(steps=100, rate=2e-2, lanes=2)


def picture(height: int, width: int, number: int = 0) -> np.ndarray[Any, Any]:
    """A smooth picture of any size."""
    rows, columns = np.mgrid[:height, :width] / 8
    waves = [np.sin(rows * (k + 1) + number) * np.cos(columns - k * number) for k in range(3)]
    return (np.stack(waves) * 100 + 127).astype(np.uint8)


PICTURES = [picture(8, 8), picture(6, 10, 1), picture(8, 8, 2), picture(8, 8, 3), picture(6, 10, 4)]


def decoded(of: InrSet, image: int) -> np.ndarray[Any, Any]:
    """The definition, in float64: pixels of equal pitch, the longer side from -1 to 1."""
    height, width = (int(side) for side in of.sizes[image])
    longest = max(height, width) - 1
    out = np.empty((3, height, width))
    for y in range(height):
        for x in range(width):
            value = np.array([(2 * y - height + 1) / longest, (2 * x - width + 1) / longest])
            for k, layer in enumerate(of.layers):
                weight, bias = layer.floats(image)
                value = weight.astype(np.float64) @ value + bias
                value = np.sin(of.siren.omega * value) if k < of.siren.layers else value
            out[:, y, x] = value
    return np.rint(np.clip(out, 0, 1) * 255)


@pytest.fixture(scope="module")
def fitted() -> InrSet:
    return encode(PICTURES, SMALL, QUICK, labels=[0, 1, 0, 1, 1], classes=("round", "long"))


def test_the_errors_are_those_of_the_networks(fitted: InrSet) -> None:
    assert len(fitted) == 5
    assert fitted.sizes.tolist() == [[8, 8], [6, 10], [8, 8], [8, 8], [6, 10]]
    assert fitted.labels.tolist() == [0, 1, 0, 1, 1]
    for number, image in enumerate(PICTURES):
        error = np.square(decoded(fitted, number) - image).mean()
        assert fitted.errors[number] == pytest.approx(error, rel=0.02)
    assert fitted.psnr[0] == pytest.approx(10 * np.log10(255**2 / fitted.errors[0]))
    # far better than one colour, though there are fewer numbers than bytes
    plain = [np.square(image - image.mean((1, 2), keepdims=True)).mean() for image in PICTURES]
    assert (fitted.errors < 0.2 * np.array(plain)).all()
    assert fitted.raw == 3 * 3 * 64 + 2 * 3 * 60


def test_pixels_are_as_far_apart_down_as_across() -> None:
    places = grid(3, 5).reshape(2, 3, 5)
    np.testing.assert_allclose(places[0, :, 0], [-0.5, 0, 0.5])
    np.testing.assert_allclose(places[1, 0], [-1, -0.5, 0, 0.5, 1])
    assert extent(5, 3) == (1.0, 0.5)
    assert grid(1, 1).tolist() == [[0.0], [0.0]]


def test_lanes_do_not_depend_on_each_other(fitted: InrSet) -> None:
    alone = encode(PICTURES[2:3], SMALL, QUICK)  # image 0 here: other numbers to begin with
    together = encode([PICTURES[2], PICTURES[3], PICTURES[0]], SMALL, QUICK)
    np.testing.assert_allclose(alone.errors[0], together.errors[0], rtol=1e-3)


def test_good_images_stop_early_and_their_lanes_go_on() -> None:
    flat = [np.full((3, 8, 8), 40 * k, np.uint8) for k in range(1, 6)]
    seen: list[Course] = []
    fitting = Fitting(steps=400, rate=1e-2, lanes=2, target=25.0)
    made = encode(flat, SMALL, fitting, watch=seen.append)
    assert seen[-1].done == seen[-1].total == 5
    assert seen[-1].steps < 600  # three rounds of 400 were 1,200
    assert made.missed(25.0) == []
    made.check_target(25.0)
    assert [course.done for course in seen] == sorted(course.done for course in seen)


def test_a_target_that_is_not_reached_is_named(fitted: InrSet) -> None:
    with pytest.raises(DataError, match=r"5 of 5 images do not reach 90 dB: 0, 1, 2, 3, 4") as info:
        fitted.check_target(90)
    assert "worst : image" in str(info.value)
    assert "fix: more steps" in str(info.value)


class Killed(Exception):  # noqa: N818 - it is no error
    """Stands for the end of the process."""


def test_it_goes_on_where_it_was_cut_off(fitted: InrSet, tmp_path: Path) -> None:
    def kill(course: Course) -> None:
        if course.steps >= 140:
            raise Killed

    options: dict[str, Any] = {"labels": [0, 1, 0, 1, 1], "folder": tmp_path}
    with pytest.raises(Killed):
        encode(PICTURES, SMALL, QUICK, watch=kill, **options)
    seen: list[Course] = []
    again = encode(PICTURES, SMALL, QUICK, watch=seen.append, **options)
    assert seen[0].steps == 160  # nothing was lost, though it was no time for a checkpoint
    assert seen[0].share == pytest.approx((2 + 2 * 60 / 100) / 5)
    assert seen[-1].share == 1
    np.testing.assert_array_equal(again.errors, fitted.errors)
    for one, other in zip(again.layers, fitted.layers, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_array_equal(one.bias, other.bias)
    seen.clear()
    encode(PICTURES, SMALL, QUICK, watch=seen.append, **options)
    assert not seen  # it was done
    with pytest.raises(DataError, match="other images, or with other settings"):
        encode(PICTURES[:4], SMALL, QUICK, folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "meta", "message"),
    [
        ({"done": np.zeros(1, np.bool_)}, {}, "differs : done"),
        ({"weight.0": None}, {}, r"missing : weight\.0"),
        ({"lanes.images": np.array([7, 1], np.int64)}, {}, "does not fit its own images"),
        ({"lanes.images": np.zeros(9, np.int64)}, {}, "does not fit its own images"),
        ({"lanes.taken": np.array([-1, 0], np.int64)}, {}, "does not fit its own images"),
        ({}, {"size": [1 << 20, 1 << 20]}, "does not fit its own images"),
        ({}, {"size": 5}, "does not fit its own images"),
    ],
)
def test_a_checkpoint_that_somebody_made(
    tmp_path: Path, changes: dict[str, Any], meta: dict[str, Any], message: str
) -> None:
    def kill(course: Course) -> None:
        raise Killed

    with pytest.raises(Killed):
        encode(PICTURES, SMALL, QUICK, folder=tmp_path, watch=kill)
    found = load_checkpoint(tmp_path)
    tensors = {name: one for name, one in {**found.tensors, **changes}.items() if one is not None}
    save_checkpoint(tmp_path, tensors, {**found.meta, **meta})
    with pytest.raises((DataError, CheckpointError), match=message):
        encode(PICTURES, SMALL, QUICK, folder=tmp_path)


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from tests.compression.test_inr import PICTURES, QUICK, SMALL, encode
kill = lambda course: os.kill(os.getpid(), signal.SIGKILL) if course.steps >= 140 else None
encode(PICTURES, SMALL, QUICK, folder={folder!r}, every=0.0, watch=kill)
"""


@pytest.mark.full
def test_it_goes_on_after_a_signal_that_nobody_can_catch(fitted: InrSet, tmp_path: Path) -> None:
    root = str(Path(__file__).parent.parent.parent)
    code = KILLED.format(root=root, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300)
    assert done.returncode == -9, done.stderr
    again = encode(PICTURES, SMALL, QUICK, folder=tmp_path)
    np.testing.assert_array_equal(again.errors, fitted.errors)


GOOD = PICTURES[0]


@pytest.mark.parametrize(
    ("images", "options", "kind", "message"),
    [
        ([], {}, DataError, "there are no images"),
        ([GOOD, GOOD / 255], {}, ArgumentTypeError, "image 1 must be a uint8 array, got float64"),
        ([GOOD.transpose(1, 2, 0)], {}, ArgumentError, r"image 0 must have shape \(3, H, W\)"),
        ([np.zeros((3, 0, 4), np.uint8)], {}, ArgumentError, "image 0 must have shape"),
        ([np.zeros((3, 1, 5000), np.uint8)], {}, ArgumentError, "more than 4096"),
        ([GOOD], {"labels": [1, 2]}, ArgumentError, "labels must be 1 integers"),
        ([GOOD], {"labels": [-1]}, ArgumentError, r"labels must lie in 0 \.\. 1048575, got -1"),
        ([GOOD], {"labels": [1 << 40]}, ArgumentError, r"labels must lie in 0 \.\. 1048575"),
        ([GOOD], {"classes": "ab"}, ArgumentTypeError, "classes must be a list of names"),
        ([GOOD], {"classes": [1]}, ArgumentTypeError, "classes must be a list of names"),
        ([GOOD], {"labels": [2], "classes": ["a"]}, ArgumentError, r"labels must lie in 0 \.\. 0"),
    ],
)
def test_bad_images_are_named(images: Any, options: Any, kind: Any, message: str) -> None:
    def watch(course: Course) -> None:
        raise Killed  # nothing is fitted in vain

    with pytest.raises(kind, match=message):
        encode(images, SMALL, Fitting(steps=1), watch=watch, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fitting(steps=0), r"steps must be an int in 1 \.\. 2"),
        (lambda: Fitting(lanes=True), r"lanes must be an int in 1 \.\. 2"),
        (lambda: Fitting(seed=1 << 64), r"seed must be an int in 0 \.\. 2"),
        (lambda: Fitting(rate=float("nan")), "rate must be a finite number above 0"),
        (lambda: Fitting(target=-3.0), "target must be a finite number above 0"),
        (lambda: Siren(width=0), r"width must lie in 1 \.\. 1024"),
        (lambda: Siren(omega=float("inf")), "omega must be a number above 0"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
