"""Plans of cuDNN as bytes: a process writes those that it has found, a later one reads them back.

What cuDNN writes is its version, the properties of the device, the engine, and the code of kernels
that it has compiled for it. It refuses what another version wrote, or another device. It does not
notice all damage, least of all in that code: whoever keeps the bytes has to.

They are read back for the properties of the device and not by a handle. With one, the frontend
records a run on the caller's stream, to warm up; where memory for that is not to be had it returns
without ending the recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.backends.cuda.cudnn.library import FIRST, Cudnn
from symgraph.errors import BackendError


def written(library: Cudnn, graph: Any, plan: int) -> bytes:
    """Give a plan of a graph that has been built, after the version of the frontend."""
    graph.build_plan_at_index(plan)  # again: it is the one built last that is written
    return _version(library) + bytes(graph.serialize())


class Kept:
    """A plan that was read back, under its name. Raises `BackendError` where it cannot be."""

    def __init__(self, library: Cudnn, name: str, saved: bytes) -> None:
        self.name, self.saved, self._library = name, saved, library
        own = _version(library)
        if not saved.startswith(own):
            raise BackendError("cuDNN: a plan was written by another version of the frontend.")
        module = library.module
        try:
            # never asked for the name of its plan: a graph that was read back ends the process then
            self._graph = module.pygraph(device_property=library.properties)
            self._graph.deserialize(bytearray(saved[len(own) :]))  # it takes no bytes
            self.workspace = int(self._graph.get_workspace_size())
        except (module.cudnnGraphNotSupportedError, RuntimeError, ValueError) as problem:
            raise BackendError(
                "cuDNN: a plan cannot be read back.", details=str(problem).splitlines()[:1]
            ) from problem

    def run(self, addresses: Sequence[int], workspace: int) -> None:
        """Queue it for operands and the result. Raises `BackendError` where that fails."""
        module, given = self._library.module, dict(enumerate(addresses, FIRST))
        try:
            self._graph.execute_plan_at_index(given, workspace, 0, handle=self._library.handle)
        except (module.cudnnGraphNotSupportedError, RuntimeError, ValueError) as problem:
            raise BackendError(
                f"{self.name}, which was read back, does not run.",
                details=str(problem).splitlines()[:1],
            ) from problem


def _version(library: Cudnn) -> bytes:
    return f"frontend {library.module.__version__}\n".encode()
