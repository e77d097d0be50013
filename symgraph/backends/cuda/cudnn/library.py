"""Loading cuDNN and its frontend, and what graphs are planned for: a device, or its description."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

from symgraph.backends.cuda.wheels import FRONTEND, wheels
from symgraph.errors import BackendError

FIRST = 1  # of the numbers by which graphs know their operands, in order, and then the result


def install(cuda: int) -> str:
    """Give the command that installs what goes with a version of CUDA."""
    return f"pip install {wheels(cuda).cudnn} {FRONTEND}"


@cache
def found() -> tuple[Any, str]:
    """Give the frontend's module, or None and why it cannot be used."""
    if importlib.util.find_spec("cudnn") is None:
        return None, "nvidia-cudnn-frontend is not installed"
    try:
        module = importlib.import_module("cudnn")
        module.backend_version()
    except (ImportError, OSError, RuntimeError) as problem:
        return None, str(problem).splitlines()[0]
    return module, ""


class Cudnn:
    """The frontend, with what it plans for: a handle, or a description of an absent device."""

    def __init__(self, module: Any, target: Mapping[str, Any], number: int = 0) -> None:
        self.module, self.target, self._number = module, dict(target), number

    @property
    def handle(self) -> Any:
        """The handle that plans run by."""
        return self.target["handle"]

    @cached_property
    def properties(self) -> Any:
        """The properties of the device, for which plans are read back."""
        described = self.target.get("device_property")
        if described is not None:
            return described
        return self.module.create_device_properties(self._number)

    def graph(self) -> Any:
        """Make an empty graph whose sums are in float32."""
        single = self.module.data_type.FLOAT
        return self.module.pygraph(
            intermediate_data_type=single, compute_data_type=single, **self.target
        )


def on_stream(module: Any, stream: int, number: int) -> Cudnn:
    """Open cuDNN on the current device, which has this number."""
    handle = module.create_handle()
    module.set_stream(handle=handle, stream=stream)
    return Cudnn(module, {"handle": handle}, number)


def described(module: Any, description: str, capability: int, processors: int) -> Cudnn:
    """Plan for a device that is not there; `description` is cuDNN's own, as JSON."""
    try:
        properties = module.create_device_properties(description)
    except RuntimeError as problem:
        raise BackendError("cuDNN: the description of a device cannot be read.") from problem
    return Cudnn(
        module,
        {"device_property": properties, "sm_version": capability, "sm_count": processors},
    )
