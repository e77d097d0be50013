"""One image file to one uint8 array (3, size, size), whatever its mode, or a reason why not."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from symgraph.data.npy import shown
from symgraph.errors import ArgumentError, DataError, DataMissingError

if TYPE_CHECKING:
    from PIL.Image import Image

# Photographs are far below these; beyond them a file is a decompression bomb or not an image.
MAX_PIXELS = 1 << 26
MAX_FILE_BYTES = 1 << 28
MAX_SIZE = 4096

# Only formats that are decoded in this process; PIL's list also has some that start programs.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp")
SUFFIXES = (*_PHOTO_SUFFIXES, ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")

_ORIENTATION, _UPRIGHT = 0x0112, 1

# What PIL's decoders raise on damaged files.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)
# These say that this machine is short of something, not that the file is bad.
_OUR_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def require_pil() -> None:
    """Raise `DataError` with the remedy where PIL is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise DataError(
            "Reading image files needs Pillow, which is not installed.",
            fix="pip install symgraph[models]",
        ) from error


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file of bounded size; `DataError` says why it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        if error.errno in _OUR_FAULT:
            raise
        raise DataError(f"cannot be read: {error.strerror}") from error
    if not data:
        raise DataError("is empty (zero bytes)")
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"has more than {MAX_FILE_BYTES} bytes")
    return data


def _grey_from_16_bit(image: Image) -> Image:
    """Return an 8-bit grey image of one with 16 bits: 65535 becomes 255, rounded to nearest."""
    import PIL.Image

    values = np.asarray(image).astype(np.int64)
    if int(values.min()) < 0 or int(values.max()) > 65535:
        raise DataError("has grey values of 32 bits, whose range is not known")
    return PIL.Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _plain_mode(image: Image) -> Image:
    """Return the image in mode L or RGB: alpha dropped, palette looked up, inks turned to light."""
    mode = image.mode
    if mode in ("L", "RGB"):
        return image
    if mode == "I" or mode.startswith("I;16"):
        return _grey_from_16_bit(image)
    if mode == "F":
        raise DataError("has floating-point values, whose range is not known")
    if mode in ("1", "LA"):
        return image.convert("L")
    if mode in ("La", "RGBa"):  # colours multiplied by alpha: divide first
        return _plain_mode(image.convert(mode.upper()))
    if mode in ("P", "PA"):  # through RGBA, because a palette may hold alpha too
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _oriented(image: Image) -> Image:
    """Return the image the way its EXIF tag says that it is to be looked at."""
    from PIL import ImageOps

    image.load()  # some formats have their tags behind the pixels
    if image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT:
        return image  # most are: turning by nothing would copy every pixel
    return ImageOps.exif_transpose(image)


def _square(image: Image, size: int, keep_aspect: bool) -> Image:
    """Resize to size x size, of the whole image or of its central square."""
    import PIL.Image

    box: tuple[float, float, float, float] | None = None
    if keep_aspect:
        # Cutting in the source's coordinates is "short side to `size`, then centre crop" in one
        # step, without a huge intermediate image for a very long strip.
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    return image.resize((size, size), PIL.Image.Resampling.BILINEAR, box=box)


def _decode(
    data: bytes, size: int | None, keep_aspect: bool, max_pixels: int
) -> npt.NDArray[np.uint8]:
    """Return the pixels (3, size, size) of an image file held in memory, or (3, H, W) as it is."""
    import PIL
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size  # from the header: nothing is decoded yet
            if width * height > max_pixels:
                raise DataError(
                    f"has {width} x {height} pixels, more than the bound of {max_pixels}"
                )
            # Rotating after the resize would be cheaper, but the tag is lost by then.
            plain = _plain_mode(_oriented(image))
            pixels = np.asarray(plain if size is None else _square(plain, size, keep_aspect))
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise DataError(f"has too many pixels: {error}") from error
    except PIL.UnidentifiedImageError as error:
        raise DataError("is not an image in a known format") from error
    except DataError:
        raise
    except _DECODE_ERRORS as error:
        raise DataError(f"is damaged: {type(error).__name__}: {error}"[:200]) from error
    if pixels.ndim == 2:
        return np.stack([pixels] * 3)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def decode_file(
    path: str | os.PathLike[str], size: int | None, keep_aspect: bool, max_pixels: int
) -> npt.NDArray[np.uint8]:
    """Return the pixels (3, size, size) of an image file, or (3, H, W) where `size` is None.

    The message of the `DataError` raised for a bad file is only the reason ("is damaged: ...");
    the caller knows under which name to report it.
    """
    return _decode(_read_bytes(path), size, keep_aspect, max_pixels)


def load_image(
    path: str | os.PathLike[str],
    size: int = 256,
    *,
    keep_aspect: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> npt.NDArray[np.uint8]:
    """Return an image file as uint8 (3, size, size), just as `prepare` stores it.

    Grey becomes three equal channels, alpha is dropped, palette, CMYK and 16-bit images are
    converted and the EXIF orientation is applied. The whole image is resized (bilinear,
    antialiased) without keeping its aspect, as published; with `keep_aspect` its short side is
    resized and the centre cut out. Raises `DataMissingError` and `DataError` with the reason.
    """
    require_pil()
    check_size(size)
    if not os.path.exists(path):
        raise DataMissingError(f"{shown(path)} does not exist.")
    try:
        return decode_file(path, size, keep_aspect, max_pixels)
    except DataError as error:
        raise DataError(f"{shown(path)} {error.message}.") from error


def check_size(size: int) -> int:
    """Return `size` if images of that side can be stored, else raise `ArgumentError`."""
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
        raise ArgumentError(f"size must be an integer in 1 .. {MAX_SIZE}, got {size!r}.")
    return size
