"""Networks of images decoded inside of a graph, against NumPy: windows, draws, order, sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.data import InrImages, InrSet, Siren, decode, measured, normalised, quantised
from symgraph.errors import ArgumentError, ArgumentTypeError, DataError

SIREN = Siren(layers=2, width=6)
SIZES = [(9, 9), (9, 9), (5, 9), (9, 9), (8, 4), (9, 9)]


def made(dtypes: tuple[str, ...] = ("float16", "int8", "float16")) -> InrSet:
    """Six images of random networks, with colours that are not cut off everywhere."""
    layers: list[tuple[Any, Any]] = []
    for number in range(len(SIZES)):
        rng = np.random.default_rng(number)
        layers.append(SIREN.start(rng))
    stacked = []
    for k, dtype in enumerate(dtypes):
        weight = np.stack([weights[k] for weights, _ in layers])
        bias = np.stack([biases[k] for _, biases in layers])
        if k == SIREN.layers:
            weight, bias = 3 * weight, bias + 0.5
        stacked.append(quantised(weight, bias, dtype))
    count = len(SIZES)
    return InrSet(
        SIREN, tuple(stacked), np.array(SIZES, np.int32), np.arange(count, dtype=np.int32),
        tuple("abcdef"), np.ones(count, np.float32),
    )  # fmt: skip


SET = made()


def colours(number: int, places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The definition in float64: bytes (3, P) of an image at places (P, 2) of its own."""
    value = places.T
    for k, layer in enumerate(SET.layers):
        weight, bias = layer.floats(number)
        value = weight.astype(np.float64) @ value + bias[:, None]
        value = np.sin(30 * value) if k < SIREN.layers else value
    return np.rint(255 * np.clip(value, 0, 1))


def whole(number: int, height: int, width: int) -> np.ndarray[Any, Any]:
    """All pixels of an image decoded at some size."""
    own = np.array(SIZES[number]) - 1
    across = own / own.max()
    rows = np.linspace(-across[0], across[0], height)
    columns = np.linspace(-across[1], across[1], width)
    places = np.array([(row, column) for row in rows for column in columns])
    return colours(number, places).reshape(3, height, width)


def close(found: Any, wanted: Any) -> None:
    """Bytes are equal, but for a few that lie between two and are rounded to the other one."""
    difference = np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def indices() -> Any:
    return sg.tensor("indices", (sg.dim("B"),), "int32")


@pytest.fixture(scope="module")
def images() -> InrImages:
    return InrImages(SET)


def test_the_colours_vary() -> None:
    spread = [whole(number, 9, 9).std() for number in range(6)]
    assert min(spread) > 10


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_pixels_are_those_of_the_networks(images: InrImages, backend: str) -> None:
    number = indices()
    run = sg.function(
        [number], [images.pixels(number, 9, 9), images.label(number)], backend=backend
    )
    for chosen in ([3, 0, 2, 0], [4]):
        found, labels = run(np.array(chosen, np.int32))
        assert found.shape == (len(chosen), 3, 9, 9)
        close(found, [whole(k, 9, 9) for k in chosen])
        assert labels.tolist() == chosen


@pytest.mark.gpu
def test_a_gpu_decodes_the_same(images: InrImages) -> None:
    number = indices()
    run = sg.function([number], images.pixels(number, 9, 9), backend="cuda")
    close(run(np.arange(6, dtype=np.int32)), [whole(k, 9, 9) for k in range(6)])


def test_images_come_back_at_their_own_sizes() -> None:
    found = decode(SET)
    assert [one.shape for one in found] == [(3, *size) for size in SIZES]
    assert {one.dtype for one in found} == {np.dtype(np.uint8)}
    for number, one in enumerate(found):
        close(one, whole(number, *SIZES[number]))
    (small,) = decode(SET, [2], size=(3, 4))
    close(small, whole(2, 3, 4))
    with pytest.raises(ArgumentError, match=r"indices must lie in 0 \.\. 5"):
        decode(SET, [6])
    with pytest.raises(ArgumentTypeError, match="must be integers"):
        decode(SET, [0.5])


def test_a_crop_is_part_of_the_whole(images: InrImages) -> None:
    number = indices()
    even, odd = images.pixels(number, 9, 9, crop=5), images.pixels(number, 9, 9, crop=4)
    found, before = sg.function([number], [even, odd])(np.array([1, 2], np.int32))
    close(found, [whole(k, 9, 9)[:, 2:7, 2:7] for k in (1, 2)])
    close(before, [whole(k, 9, 9)[:, 2:6, 2:6] for k in (1, 2)])


def places_in(found: Any, image: Any, pad: int) -> set[tuple[int, int, bool]]:
    """Find the windows of an image, black around it, that look like what was found."""
    wide = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    side = found.shape[1]
    hits = set()
    for top in range(wide.shape[1] - side + 1):
        for left in range(wide.shape[2] - side + 1):
            part = wide[:, top : top + side, left : left + side]
            for turned in (False, True):
                one = part[:, :, ::-1] if turned else part
                if np.abs(one - found).max() <= 1:
                    hits.add((top, left, turned))
    return hits


def test_each_image_has_draws_of_its_own(images: InrImages) -> None:
    sg.seed(5)
    number = indices()
    options: dict[str, Any] = {"crop": 7, "pad": 2, "mirror": True, "random": True}
    run = sg.function([number], images.pixels(number, 9, 9, **options))
    image = whole(0, 9, 9)
    seen: list[tuple[int, int, bool]] = []
    for _ in range(4):
        for one in run(np.zeros(16, np.int32)):
            hits = places_in(one, image, 2)
            assert len(hits) == 1
            seen.extend(hits)
    tops, lefts, turned = (set(column) for column in zip(*seen, strict=True))
    assert tops == lefts == set(range(7))  # 64 draws of 0 .. 6
    assert turned == {False, True}
    assert len(set(seen[:16])) > 8


def test_the_order_is_followed_and_no_network_is_moved(images: InrImages) -> None:
    number, updates = images.next(4)
    take = sg.function([], [number, images.label(number)], updates=updates)
    assert [take()[0].tolist() for _ in range(2)] == [[0, 1, 2, 3]] * 2  # two do not fill a batch
    kept = [variable.storage.version for variable in images.weights]
    images.shuffle(seed=1, epoch=0)
    first = take()[1].tolist()
    assert len(set(first)) == 4
    images.shuffle(seed=1, epoch=1)
    assert take()[1].tolist() != first
    images.shuffle(seed=1, epoch=0)
    assert take()[1].tolist() == first
    assert [variable.storage.version for variable in images.weights] == kept
    pair, updates = images.next(2)
    two = sg.function([], pair, updates=updates)
    images.shuffle(seed=2, epoch=0)
    assert sorted(np.concatenate([two() for _ in range(3)]).tolist()) == list(range(6))


def test_networks_are_held_as_they_are_stored(images: InrImages) -> None:
    assert [variable.dtype for variable in images.weights] == ["float16", "int8", "float16"]
    assert images.scales[0] is None
    assert images.scales[1] is not None


def test_bytes_are_normalised_by_channel() -> None:
    pixels = sg.tensor("pixels", (2, 3, 4, 4))
    given = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4)).astype(np.float32)
    found = normalised(pixels, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)).eval(pixels=given)
    mean, deviation = (np.reshape(v, (3, 1, 1)) for v in ([0.4, 0.5, 0.6], [0.1, 0.2, 0.3]))
    np.testing.assert_allclose(found, (given / 255 - mean) / deviation, rtol=1e-4, atol=1e-5)
    with pytest.raises(ArgumentError, match="three numbers each, the latter above 0"):
        normalised(pixels, (0, 0, 0), (1, 1, 0))


def test_errors_are_measured_against_the_originals() -> None:
    exact = measured(SET, [whole(k, *SIZES[k]).astype(np.uint8) for k in range(6)])
    assert (exact.psnr > 60).all()  # all but a few bytes are right
    off = measured(SET, [np.zeros((3, *size), np.uint8) for size in SIZES])
    wanted = [np.square(whole(k, *SIZES[k])).mean() for k in range(6)]
    np.testing.assert_allclose(off.errors, wanted, rtol=0.01)
    with pytest.raises(DataError, match="image 2 is 9 x 9, in the set it is 5 x 9"):
        measured(SET, [np.zeros((3, 9, 9), np.uint8)] * 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, n: i.pixels(n, 9, 9, crop=10), "crop must be at most 9, got 10"),
        (lambda i, n: i.pixels(n, 9, 9, crop=0), "size must be an integer in"),
        (lambda i, n: decode(SET, [0], size=(5,)), r"size must be \(height, width\), got \(5,\)"),
        (lambda i, n: i.pixels(n, 9, 9, pad=10), r"pad must lie in 0 \.\. 9"),
        (lambda i, n: i.pixels(n, 0, 9), "size must be an integer in"),
        (lambda i, n: i.next(7), r"batch must lie in 1 \.\. 6, got 7"),
    ],
)
def test_what_does_not_fit_is_named(images: InrImages, call: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call(images, indices())
