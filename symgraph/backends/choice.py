"""Which backend a function runs on, from what its caller and the settings say."""

from __future__ import annotations

import re

from symgraph.backends.cpu.compiler import unavailable
from symgraph.config import config
from symgraph.errors import ArgumentTypeError, DeviceError


def chosen_backend(name: str, wanted: str | None) -> str:
    """Give the backend; raises where compiled code is asked for and cannot be made."""
    known = ("auto", "cpu", "cuda", "reference")
    if wanted is not None and wanted not in known and device_number(wanted) < 0:
        raise ArgumentTypeError(
            f"{name}: there is no backend {wanted!r:.60}.",
            fix='"cpu", "cuda", "cuda:1", "reference" or "auto"',
        )
    chosen = config.backend if wanted is None else wanted
    if chosen == "reference" or chosen.startswith("cuda"):
        return chosen
    problem = unavailable()
    if problem and chosen == "cpu":
        raise DeviceError(
            f"{name}: the backend cpu cannot be used: {problem}.",
            fix="pip install 'symgraph[cpu]', or backend=\"reference\"",
        )
    return "reference" if problem else "cpu"


def require_outputs_on(name: str, wanted: str, backend: str) -> None:
    """Check where outputs shall be: on the host, or on the device that a function runs on."""
    if wanted not in ("host", "device"):
        raise ArgumentTypeError(
            f"{name}: outputs_on={wanted!r:.60} is no place.", fix='outputs_on="host" or "device"'
        )
    if wanted == "device" and not backend.startswith("cuda"):
        raise ArgumentTypeError(
            f"{name}: outputs stay on a device of CUDA, not of the backend {backend}.",
            fix='backend="cuda", or leave out outputs_on="device"',
        )


def device_number(backend: str) -> int:
    """Give the number of a CUDA device, 0 unless one is said; -1 for another backend."""
    found = re.fullmatch(r"cuda(?::(\d{1,3}))?", backend) if isinstance(backend, str) else None
    return -1 if found is None else int(found[1] or 0)
