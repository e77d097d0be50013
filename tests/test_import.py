"""What `import symgraph` must not do: load optional packages, touch devices, change the process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.test_layers import OPTIONAL

LOOK = """
import json, logging, os, random, sys, threading, warnings
import numpy
texts = []  # of methods that `dataclass` and its like write and compile; files have a name
sys.addaudithook(
    lambda event, given: event == "exec" and given[0].co_filename == "<string>" and texts.append(0)
)
import ml_dtypes, networkx
before = len(texts)
environment, filters = dict(os.environ), list(warnings.filters)
errors, draws = numpy.geterr(), random.getstate()
threads = threading.active_count()
import symgraph
try:
    with open("/proc/self/maps") as file:
        mapped = sorted({line.split()[-1] for line in file if "/" in line})
except OSError:  # not Linux
    mapped = []
opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in range(64)]
json.dump({
    "modules": sorted(sys.modules),
    "mapped": mapped,
    "opened": opened,
    "children": threading.active_count() - threads,
    "texts": len(texts) - before,
    "handlers": len(logging.getLogger().handlers),
    "same": [environment == dict(os.environ), filters == list(warnings.filters),
             errors == numpy.geterr(), draws == random.getstate()],
}, sys.stderr)
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "importing prints nothing"
    result: dict[str, Any] = json.loads(done.stderr)
    return result


def test_no_optional_package_is_loaded(seen: dict[str, Any]) -> None:
    loaded = {name.split(".")[0] for name in seen["modules"]}
    assert "symgraph" in loaded
    assert {"sympy", "cupy", "torch", "jax", "PIL", "sklearn", "matplotlib", "rich"} <= OPTIONAL
    assert loaded & OPTIONAL == set()


def test_what_not_every_program_needs_is_late(seen: dict[str, Any]) -> None:
    late = ["array_api", "compression", "data", "nn", "optim", "parallel"]
    loaded = [name.split(".")[1] for name in seen["modules"] if name.startswith("symgraph.")]
    assert set(late) & set(loaded) == set()


def test_hardly_any_text_is_written_and_compiled(seen: dict[str, Any]) -> None:
    # 59 for classes that change or have slots, 28 for frozen ones used at once, and 9 for tuples;
    # were all of them made by `dataclass`, it would be a thousand, and two fifths of the time
    assert 0 < seen["texts"] <= 120


def test_neither_models_nor_the_command_line_is_loaded(seen: dict[str, Any]) -> None:
    late = {"models", "symgraph.__main__", "symgraph.doctor", "symgraph.bench"}
    assert late & set(seen["modules"]) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_device_is_touched(seen: dict[str, Any]) -> None:
    assert seen["mapped"], "the process has its own libraries mapped"
    for path in [*seen["mapped"], *seen["opened"]]:
        assert "libcuda" not in path
        assert "libcudart" not in path
        assert not path.startswith("/dev/nvidia")


def test_nothing_of_the_process_is_changed(seen: dict[str, Any]) -> None:
    assert seen["children"] == 0
    assert seen["handlers"] == 0
    assert seen["same"] == [True] * 4
