"""The part of the .npy format that data sets use: plain arrays in C order, read with suspicion.

The header is matched against one exact form instead of being evaluated, its sizes are compared
with the size of the file before anything is allocated, and objects (pickles) have no form here.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np

from symgraph.errors import DataError, DataMissingError

_MAGIC = b"\x93NUMPY\x01\x00"
_MAX_HEADER = 1024
_HEADER = re.compile(
    rb"\{'descr': '([<>|=][a-zA-Z]\d{1,2})', 'fortran_order': (True|False), "
    rb"'shape': \((\d{1,12}(?:, \d{1,12}){0,7}),?\), \} *\n"
)


def header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the bytes that stand before the array in a .npy file.

    >>> header("|u1", (2, 3)).startswith(b"\\x93NUMPY")
    True
    """
    buffer = io.BytesIO()
    fields = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def shown(name: str | os.PathLike[str]) -> str:
    """Return a file name that is safe to print: no control characters, no broken text."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def open_plain(folder: Path, name: str) -> BinaryIO:
    """Open a regular file of a data set for reading; a link or a device is refused.

    Raises `DataMissingError` where it does not exist and `DataError` where it cannot be read.
    """
    path = folder / name
    where = shown(path)
    # Non-blocking, because opening a named pipe would otherwise wait for ever.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if path.is_symlink():
            raise DataError(f"{where} is a symbolic link; a data set holds plain files only.")
        file = os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb")
    except FileNotFoundError as error:
        raise DataMissingError(
            f"{where} does not exist, though the data set's index names it.",
            fix="prepare the data set again",
        ) from error
    except OSError as error:
        raise DataError(f"{where} cannot be opened: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise DataError(f"{where} is not a regular file.")
    return file


def read_part(file: BinaryIO, length: int, name: str) -> bytes:
    """Return the next bytes of a file, at most `length`; a failing disk is a `DataError`."""
    try:
        return file.read(length)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}.") from error


def check_header(file: BinaryIO, name: str, dtype: str, shape: tuple[int, ...]) -> int:
    """Return the offset of the array, which must have this dtype and shape and fill the file.

    Raises `DataError` that names the file, what the index says and what the file says.
    """
    start = read_part(file, len(_MAGIC) + 2, name)
    length = int.from_bytes(start[-2:], "little")
    if len(start) != len(_MAGIC) + 2 or not start.startswith(_MAGIC) or length > _MAX_HEADER:
        raise DataError(f"{name} is not a .npy file of version 1.0.")
    match = _HEADER.fullmatch(read_part(file, length, name))
    if match is None:
        raise DataError(f"{name}: its .npy header is damaged or not that of a plain array.")
    descr, order = match[1].decode("ascii"), match[2].decode("ascii")
    sizes = tuple(int(size) for size in match[3].split(b","))
    if (descr, order, sizes) != (dtype, "False", shape):
        raise DataError(
            f"{name} does not hold the array that the index describes.",
            details=[
                f"index: {dtype} {shape}",
                f"file:  {descr} {sizes}{'' if order == 'False' else ', Fortran order'}",
            ],
        )
    offset = len(start) + length
    expected = offset + math.prod(shape) * np.dtype(dtype).itemsize
    found = os.fstat(file.fileno()).st_size
    if found != expected:
        raise DataError(f"{name} has {found} bytes where its header promises {expected}.")
    return offset
