"""What is installed. Wheels only: no compiler is needed, and nothing here is built."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# What `import symgraph` needs. safetensors is not among them although its wheel is small: only
# checkpoints use it, it ships compiled code for fewer machines than NumPy does, and a core that can
# build, differentiate and interpret a graph must install wherever NumPy does.
CORE = ["numpy>=2.0", "networkx>=3.2", "ml_dtypes>=0.4"]

CHECKPOINTS = ["safetensors>=0.4.3"]
# The wheel of oneDNN that loads with nothing but libgomp; newer ones are SYCL builds.
CPU = [
    "llvmlite>=0.50",
    "cffi>=1.16",
    'onednn-cpu-gomp==2023.2.0; sys_platform == "linux" and platform_machine == "x86_64"',
]
MODELS = ["pillow>=10", "scikit-learn>=1.4", "matplotlib>=3.8", "rich>=13", *CHECKPOINTS, *CPU]
CUDNN = "nvidia-cudnn-frontend==1.28.0"
NVIDIA = [CUDNN, "nvidia-cudnn-cu13>=9.11", "nvidia-cublas>=13"]
NVIDIA_12 = [CUDNN, "nvidia-cudnn-cu12>=9.11", "nvidia-cublas-cu12>=12"]
OFFLINE = ["nvidia-cuda-nvrtc>=13"]  # compiles kernels without a driver
RAY = ["ray>=2.40"]
MPI = [
    "mpi4py>=4",
    "mpich>=4",
]  # the wheel of MPICH has mpiexec; mpi4py also runs with a site's MPI
LATEX = ["sympy>=1.12"]
TEST = ["pytest>=8.2", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "hypothesis>=6.100"]
ORACLES = ["scipy>=1.13", "mpmath>=1.3", *LATEX]
DOCS = ["sphinx>=7.3", "myst-parser>=3", "matplotlib>=3.8", *LATEX]
TOOLS = ["ruff>=0.6", "mypy>=1.11", "tox>=4.11", "threadpoolctl>=3.1", "selenium>=4.15"]

EXTRAS = {
    "checkpoints": CHECKPOINTS,
    "models": MODELS,
    "cpu": CPU,
    "cuda": ["cupy-cuda13x>=14", *NVIDIA],
    "cuda12": ["cupy-cuda12x>=14", *NVIDIA_12],
    "ray": RAY,
    "mpi": MPI,
    "latex": LATEX,
    "docs": [*DOCS, *ORACLES],
    "test": [*TEST, *ORACLES],
    "dev": [*TEST, *ORACLES, *MODELS, *CPU, *LATEX, *DOCS, *TOOLS, *OFFLINE],
}


def version() -> str:
    """Read the version without importing the package, which may not be installable yet."""
    text = (HERE / "symgraph" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError('symgraph/_version.py has no line `__version__ = "..."`')
    return found.group(1)


def unique(names: list[str]) -> list[str]:
    """Drop repetitions, keeping the order."""
    return list(dict.fromkeys(names))


setup(
    name="symgraph",
    version=version(),
    description="Symbolic tensor graphs that you hold, read, prove things about and run fast",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["symgraph", "symgraph.*", "models", "models.*"]),
    package_data={"symgraph": ["py.typed", "debug/viewer/*", "lower/cuda/*.cuh"]},
    install_requires=CORE,
    extras_require={name: unique(packages) for name, packages in EXTRAS.items()},
    entry_points={"console_scripts": ["symgraph = symgraph.__main__:main"]},
    zip_safe=False,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
