"""Loading cuDNN and its frontend, and what graphs are planned for: a device, or its description."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from typing import Any

from symgraph.backends.cuda.wheels import FRONTEND, wheels
from symgraph.errors import BackendError


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

    def __init__(self, module: Any, target: Mapping[str, Any]) -> None:
        self.module, self.target = module, dict(target)

    @property
    def handle(self) -> Any:
        """The handle that plans run by."""
        return self.target["handle"]

    def graph(self) -> Any:
        """Make an empty graph whose sums are in float32."""
        single = self.module.data_type.FLOAT
        return self.module.pygraph(
            intermediate_data_type=single, compute_data_type=single, **self.target
        )


def on_stream(module: Any, stream: int) -> Cudnn:
    """Open cuDNN on the current device."""
    handle = module.create_handle()
    module.set_stream(handle=handle, stream=stream)
    return Cudnn(module, {"handle": handle})


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
