"""What this namespace has, in the standard's words."""

from __future__ import annotations

from typing import Any

from symgraph.array_api.array import DEVICE
from symgraph.array_api.dtype import DType
from symgraph.graph.dtype_info import NamespaceInfo


class Info(NamespaceInfo):
    """Capabilities, dtypes and devices; dtypes are objects here."""

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """Give the dtypes of numbers without one; floats follow `config.float_dtype`."""
        return _objects(super().default_dtypes(device=device))

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        """Give the standard's dtypes by name, those of a kind or of several.

        Raises `ArgumentTypeError` for a kind that is no word.
        """
        return _objects(super().dtypes(device=device, kind=kind))


def _objects(names: dict[str, str]) -> dict[str, DType]:
    return {what: DType(name) for what, name in names.items()}


def __array_namespace_info__() -> Info:  # noqa: N807 - the standard's name
    """Tell capabilities, dtypes and devices; masks and sets are computed when they are called."""
    return Info(device=DEVICE, shapes_from_data=True)
