"""`sg.compress` is the folder, and NumPy's function."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest

import symgraph as sg

FIRST = [
    "import symgraph as sg",
    "import symgraph.compress; import symgraph as sg",
    "from symgraph.compress import decompose; import symgraph as sg",
    "from symgraph import *; import symgraph as sg",
]


@pytest.mark.parametrize("first", FIRST)
def test_both_whatever_comes_first(first: str) -> None:
    code = f"{first}\nprint(sg.compress([True, False], sg.constant([5, 6])).eval().tolist())\n"
    code += "print(sg.compress.decompose_layers.__name__, sg.ops.compress.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["[5]", "decompose_layers compress"], done.stderr


def test_the_call_takes_what_the_operation_takes() -> None:
    called = inspect.signature(type(sg.compress).__call__).parameters
    own = inspect.signature(sg.ops.compress).parameters
    assert [one.name for one in called.values()][1:] == [one.name for one in own.values()]
    assert [one.default for one in called.values()][1:] == [one.default for one in own.values()]
    x = sg.constant(np.arange(6).reshape(2, 3))
    assert sg.compress([0, 1, 1], x, axis=1).eval().tolist() == [[1, 2], [4, 5]]
