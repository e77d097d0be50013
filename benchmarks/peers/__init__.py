"""The set-ups of the contestants: what each peer runs, each with the settings that suit it best.

`torch_settings` prepares the process for all of them, `*_nets` hold networks with the weights of
symgraph's own modules, `*_kernels` single operations, `contestants` makes a contestant for each
setting of each peer. No peer is a dependency of symgraph; a script says which ones it lacks. To
race, make an environment that holds all of them, in the root of the checkout:

    python3 -m venv peers-venv && . peers-venv/bin/activate
    pip install 'torch>=2.13' 'jax>=0.10' 'pytensor>=3.0' cffi onednn-cpu-gomp==2023.2.0 \\
        networkx ml_dtypes pillow scikit-learn matplotlib rich scipy
    pip install --no-deps -e .

symgraph's own extras are named one by one there, since PyTensor's Numba wants an older llvmlite
than the extra `cpu` does; both work. Written with torch 2.14.1, jax 0.10.2 and pytensor 3.0.7. A
build of PyTorch without CUDA will do. torch.compile needs a C++ compiler.

The scripts gpu_*.py race on a GPU, where PyTorch and JAX must be those for CUDA 13, beside
cupy-cuda13x and nvidia-cudnn-frontend.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

PACKAGES = ("torch", "jax", "pytensor")


def installed(package: str) -> bool:
    """Tell whether a peer can be imported."""
    return importlib.util.find_spec(package) is not None


def need(*packages: str) -> None:
    """Leave the script with status 2, saying what is missing, unless these peers are installed."""
    missing = [package for package in packages if not installed(package)]
    if missing:
        print(
            f"This benchmark races against {', '.join(missing)}, which this Python does not have.\n"
            "benchmarks/peers/__init__.py says how to make an environment with the peers.",
            file=sys.stderr,
        )
        raise SystemExit(2)


def load(package: str) -> Any:
    """Import a peer, or leave the script as `need` does."""
    need(package)
    return importlib.import_module(package)
