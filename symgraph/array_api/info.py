"""What this namespace has, in the standard's words."""

from __future__ import annotations

from symgraph.array_api.array import DEVICE
from symgraph.graph.dtype_info import NamespaceInfo


def __array_namespace_info__() -> NamespaceInfo:  # noqa: N807 - the standard's name
    """Tell capabilities, dtypes and devices; masks and sets are computed when they are called."""
    return NamespaceInfo(device=DEVICE, shapes_from_data=True)
