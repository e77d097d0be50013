"""What this namespace has, in the standard's words."""

from __future__ import annotations

from typing import Any

from symgraph.array_api.array import DEVICE, require_device
from symgraph.array_api.dtypes import isdtype
from symgraph.errors import ArgumentTypeError
from symgraph.graph.dtypes import (
    BOOL,
    COMPLEX,
    INTEGERS,
    DType,
    complex_dtype,
    default_float,
)  # fmt: skip

_STANDARD = BOOL + INTEGERS + ("float32", "float64") + COMPLEX


class Info:
    """Capabilities, dtypes and devices; what `__array_namespace_info__()` gives."""

    def capabilities(self) -> dict[str, Any]:
        """Say what depends on data (masks, sets: both work), and how many axes there may be."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Give the device of new arrays."""
        return DEVICE

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """Give the dtypes of numbers without one; floats follow `config.float_dtype`."""
        require_device("default_dtypes", device)
        floating = default_float()
        return {
            "real floating": floating,
            "complex floating": complex_dtype(floating),
            "integral": "int64",
            "indexing": "int64",
        }

    def devices(self) -> list[str]:
        """List the devices."""
        return [DEVICE]

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """Give the standard's dtypes by name, those of a kind or of several.

        Raises `ArgumentTypeError` for a kind that is no word.
        """
        require_device("dtypes", device)
        if kind is not None and not isinstance(kind, str | tuple):
            raise ArgumentTypeError(
                f"dtypes: a kind is a word or several, got {type(kind).__name__}.",
                fix='kind="real floating"',
            )
        return {name: name for name in _STANDARD if kind is None or isdtype(name, kind)}


def __array_namespace_info__() -> Info:  # noqa: N807 - the standard's name
    """Tell capabilities, dtypes and devices."""
    return Info()
