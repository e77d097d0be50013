"""Every mode of image file that PIL can write, damaged files, and bombs."""

from __future__ import annotations

import contextlib
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

from symgraph.data import load_image
from symgraph.errors import ArgumentError, DataError, DataMissingError

Image = pytest.importorskip("PIL.Image")

RANDOM = np.random.default_rng(3)
GREY = RANDOM.integers(0, 256, (16, 16), dtype=np.uint8)
RGB = RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8)


def planes(rgb: np.ndarray) -> np.ndarray:
    return rgb.transpose(2, 0, 1)


def mode_of(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_rgb(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(RGB))
    loaded = load_image(path, 16)
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, planes(RGB))


def test_grey_becomes_three_copies(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(GREY))
    np.testing.assert_array_equal(load_image(path, 16), np.stack([GREY] * 3))


def test_bilevel(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(GREY > 99))
    np.testing.assert_array_equal(load_image(path, 16)[1], np.where(GREY > 99, 255, 0))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_is_dropped(tmp_path: Path, suffix: str) -> None:
    rgba = np.dstack([RGB, 255 - GREY // 2])
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(rgba), **options)
    np.testing.assert_array_equal(load_image(path, 16), planes(RGB))


def test_grey_with_alpha(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(np.dstack([GREY, GREY])))
    assert mode_of(path) == "LA"
    np.testing.assert_array_equal(load_image(path, 16), np.stack([GREY] * 3))


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
def test_palette(tmp_path: Path, transparency: object) -> None:
    image = Image.fromarray(GREY).convert("P")
    palette = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)
    image.putpalette(palette.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    path = saved(tmp_path / "a.png", image, **options)
    assert mode_of(path) == "P"
    np.testing.assert_array_equal(load_image(path, 16), planes(palette[np.asarray(image)]))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    values = RANDOM.integers(0, 65536, (16, 16), dtype=np.uint16)
    values[0, :3] = 0, 65535, 128
    path = tmp_path / f"a.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 16 16 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    expected = np.floor(values.astype(np.float64) / 257 + 0.5)
    np.testing.assert_array_equal(load_image(path, 16), np.stack([expected] * 3))


def test_cmyk(tmp_path: Path) -> None:
    inks = RANDOM.integers(0, 256, (16, 16, 4), dtype=np.uint8)
    path = saved(tmp_path / "a.tif", Image.fromarray(inks, "CMYK"))
    light = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    assert np.abs(load_image(path, 16) - planes(light)).max() <= 1


def test_cmyk_jpeg_and_float_tiff(tmp_path: Path) -> None:
    plain = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    path = saved(tmp_path / "a.jpg", plain, quality=100)
    assert np.abs(load_image(path, 16)[:, 4, 4].astype(int) - [255, 0, 0]).max() <= 3
    path = saved(tmp_path / "b.tif", Image.fromarray(GREY.astype(np.float32)))
    with pytest.raises(DataError, match="floating-point values, whose range is not known"):
        load_image(path)
    path = saved(tmp_path / "c.tif", Image.fromarray(GREY.astype(np.int32) * 1000))
    with pytest.raises(DataError, match="grey values of 32 bits"):
        load_image(path)


ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    np.testing.assert_array_equal(load_image(path, 16), planes(ORIENTATIONS[orientation](RGB)))


def test_exif_of_a_jpeg(tmp_path: Path) -> None:
    halves = np.zeros((16, 16, 3), dtype=np.uint8)
    halves[:8] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the stored image is the right side of the shown one
    loaded = load_image(saved(tmp_path / "a.jpg", Image.fromarray(halves), exif=exif), 16)
    assert loaded[:, :, 9:].min() > 200
    assert loaded[:, :, :7].max() < 50


def triangle(values: np.ndarray, size: int, side: int | None = None) -> np.ndarray:
    """Resize along the first axis with the antialiasing triangle filter, in float64.

    With `side`, `size` samples of the central `side` values; the filter sees beyond them, as it
    does where the whole is resized first and the centre cut out then.
    """
    length = len(values)
    side = length if side is None else side
    scale = side / size
    support = max(scale, 1.0)
    centres = (length - side) / 2 + (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / support
    weights = np.clip(1 - distance, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.tensordot(weights, values.astype(np.float64), axes=(1, 0))


@pytest.mark.parametrize("shape", [(40, 24), (10, 64), (7, 5), (1, 90)])
def test_resize_both_sides(tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = RANDOM.integers(0, 256, (*shape, 3), dtype=np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    tall = triangle(pixels, 16)
    expected = triangle(tall.transpose(1, 0, 2), 16).transpose(2, 1, 0)
    assert np.abs(load_image(path, 16) - expected).max() <= 1.01


@pytest.mark.parametrize("shape", [(40, 24), (10, 64), (33, 20), (16, 16)])
def test_keep_aspect_cuts_out_the_centre(tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = RANDOM.integers(0, 256, (*shape, 3), dtype=np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    side = min(shape)
    tall = triangle(pixels, 16, side)
    expected = triangle(tall.transpose(1, 0, 2), 16, side).transpose(2, 1, 0)
    assert np.abs(load_image(path, 16, keep_aspect=True) - expected).max() <= 1.01


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    fields = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 100_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", fields) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8500, 12_000, 50_000])
def test_bombs_are_refused(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    with pytest.raises(DataError, match="pixels"):
        load_image(tmp_path / "a.png")


def test_the_bound_on_pixels_can_be_lowered(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(RGB))
    with pytest.raises(DataError, match="has 16 x 16 pixels, more than the bound of 255"):
        load_image(path, max_pixels=255)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp", "ppm"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = saved(tmp_path / f"a.{suffix}", Image.fromarray(pixels)).read_bytes()
    bad = tmp_path / f"b.{suffix}"
    for part in (0.02, 0.3, 0.7):
        bad.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(DataError, match=r"b\.\w+ (is damaged|is not an image)"):
            load_image(bad)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp"])
def test_random_damage_never_escapes_as_another_error(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(8)
    whole = bytearray(saved(tmp_path / f"a.{suffix}", Image.fromarray(RGB)).read_bytes())
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 6):
            damaged[place] = random.integers(0, 256)
        (tmp_path / "b").write_bytes(damaged)
        # PIL remarks on odd metadata; the suite would turn remarks into errors
        with warnings.catch_warnings(), contextlib.suppress(DataError):
            warnings.simplefilter("ignore")
            assert load_image(tmp_path / "b", 8).shape == (3, 8, 8)


def test_not_images(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DataError, match=r"empty.jpg is empty \(zero bytes\)"):
        load_image(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(DataError, match=r"text.jpg is not an image in a known format"):
        load_image(tmp_path / "text.jpg")
    (tmp_path / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match="not an image in a known format"):
        load_image(tmp_path / "page.eps")
    with pytest.raises(DataMissingError, match=r"none.jpg does not exist"):
        load_image(tmp_path / "none.jpg")
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        load_image(tmp_path)


@pytest.mark.parametrize("size", [0, -1, 5000, 2.0, True])
def test_bad_size(tmp_path: Path, size: object) -> None:
    with pytest.raises(ArgumentError, match=r"size must be an integer in 1 .. 4096"):
        load_image(tmp_path / "a.png", size)  # type: ignore[arg-type]


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(DataError, match=r"(?s)Pillow.*fix: pip install symgraph\[models\]"):
        load_image(tmp_path / "a.png")
