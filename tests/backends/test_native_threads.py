"""Compiled functions: threads, processes, and whole numbers that wrap around."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cpu.onednn import library
from symgraph.config import usable_cores
from symgraph.errors import ConfigError
from symgraph.graph.node import Value
from tests.backends.test_native_execution import both, compiled

ROOT = Path(__file__).resolve().parents[2]

needs_library = pytest.mark.skipif(
    bool(library.status().problem), reason=library.status().problem or "there is a library"
)
pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")


# -- threads ---------------------------------------------------------------------------------------


def _rows(x: Value, v: Value) -> list[Value]:
    return [
        sg.exp(x) + v,
        sg.softmax(x, axis=1),
        x.mean(axis=1),
        x[1:, ::-1] * 2,
        sg.layer_norm(x, v, v),
        sg.argmax(x, axis=1),
    ]


def _columns(x: Value, v: Value) -> list[Value]:
    return [
        sg.softmax(x, axis=0),
        x.sum(axis=0),
        (x * v).max(axis=0),
        sg.argmax(x, axis=0),
        x.T.sum(axis=1, keepdims=True) + v[:, None],
    ]


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow more threads than this machine has cores."""
    monkeypatch.setattr(sys.modules["symgraph.config"], "usable_cores", lambda: 8)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("results", [_rows, _columns])
@pytest.mark.parametrize("shape", [(300, 200), (2000, 333), (50, 4001), (40001, 50)], ids=str)
def test_results_do_not_depend_on_the_number_of_threads(
    shape: tuple[int, int], results: Any
) -> None:
    rng = np.random.default_rng(2)
    x = sg.matrix("x")
    v = sg.tensor("v", (x.shape[1],))
    arrays = [rng.standard_normal(each).astype(np.float32) for each in (shape, shape[1:])]
    f = compiled([x, v], results(x, v))
    found, used = {}, {}
    for cores in (1, 2, 3, 7):
        with sg.config(threads=cores):
            found[cores] = f(*arrays)
        bound = f._executor.last  # type: ignore[union-attr]
        used[cores] = int(bound.records[:, 4].max())
    assert used[1] == 1
    assert used[2] == 2
    assert used[7] >= used[3] == 3, "the test is of threads"
    for cores in (2, 3, 7):
        for one, wanted in zip(found[cores], found[1], strict=True):
            assert one.tobytes() == wanted.tobytes()


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("cores", [1, 2, 7])
@pytest.mark.parametrize(
    "results",
    [
        pytest.param(lambda x: [x.sum()], id="sum"),
        pytest.param(lambda x: [x.sum(), (x * x).sum()], id="two sums"),
        pytest.param(lambda x: [sg.argmax(x)], id="argmax"),
        pytest.param(lambda x: [x.max(), x.min(), x.mean(), sg.argmin(x)], id="several"),
    ],
)
def test_long_reductions_of_everything(results: Any, cores: int) -> None:
    x = sg.matrix("x")
    array = np.random.default_rng(3).standard_normal((2000, 1000)).astype(np.float32)
    with sg.config(threads=cores):
        found = compiled([x], results(x))(array)
    wide = sg.tensor("wide", (2000, 1000), "float64")
    expected = sg.function([wide], results(wide), backend="reference")(array.astype(np.float64))
    for one, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, wanted, 2e-6, 2e-2)


def _used(f: sg.Function) -> int:
    """Tell how many threads the last call had."""
    return int(f._executor.last.threads)  # type: ignore[union-attr]


@pytest.mark.usefixtures("eight_cores")
def test_the_setting_holds_at_each_call_and_an_argument_wins() -> None:
    x, a = sg.matrix("x"), np.ones((300, 400), np.float32)
    f, own = compiled([x], sg.exp(x)), sg.function([x], sg.exp(x), backend="cpu", threads=3)
    plans = set()
    for wanted in (2, 5, 2, 1):
        with sg.config(threads=wanted):
            first, again = f(a), f(a)
            assert (_used(f), first.tobytes()) == (wanted, again.tobytes())
            plans.add(f._executor.last)  # type: ignore[union-attr]
            own(a)
            assert _used(own) == 3
    assert len(plans) == 3, "each number of threads has a plan of its own, which is kept"
    sg.config.set(threads=4)
    try:
        f(a)
        assert _used(f) == 4
    finally:
        sg.config.set(threads=None)
    f(a)
    assert _used(f) == usable_cores()


@needs_library
@pytest.mark.parametrize("wanted", [1, 2])
@pytest.mark.usefixtures("eight_cores")
def test_the_library_is_told_and_left_as_it_was(wanted: int) -> None:
    pool = library.load().openmp
    if pool is None:
        pytest.skip("this library has no pool of OpenMP")
    x, seen = sg.matrix("x"), []
    f = compiled([x], x @ x)
    before, a = pool.threads(), np.ones((900, 900), np.float32)
    with sg.config(threads=wanted):
        f(a)
        bound = f._executor.last  # type: ignore[union-attr]
        run = bound.driver

        def watched(*records: int) -> int:
            seen.append(pool.threads())
            return int(run(*records))

        bound.driver = watched
        f(a)
    assert seen == [wanted]
    assert pool.threads() == before


def test_more_threads_than_cores_are_refused() -> None:
    cores = usable_cores()
    x = sg.vector("x")
    told = rf"from 1 to {cores}, the cores that this process may use: got {cores + 1} from "
    with pytest.raises(ConfigError, match=rf"{told}an argument\.\n  fix: threads is how many"):
        sg.function([x], x, threads=cores + 1)
    with pytest.raises(ConfigError, match=rf"{told}with config\(\)"):
        sg.config(threads=cores + 1)
    for wrong in (0, -2, 1.5, "2", True):
        with pytest.raises(ConfigError, match="`threads` must be None or an integer from 1"):
            sg.function([x], x, threads=wrong)  # type: ignore[arg-type]


def test_threads_may_call_one_function_at_once() -> None:
    x, n = sg.matrix("x"), sg.shared(np.zeros(3), "n")
    f = compiled([x], [x.sum(axis=0), sg.exp(x)], {n: n + 1})
    problems: list[str] = []

    def work(number: int) -> None:
        for step in range(20):
            array = np.full((50 + number + step % 3, 40), number + step, np.float32)
            total, grown = f(array / 100)
            if not np.allclose(total, array.sum(axis=0) / 100, 1e-5):
                problems.append(f"thread {number}, step {step}: sum")
            if not np.allclose(grown, np.exp(array / 100), 1e-5):
                problems.append(f"thread {number}, step {step}: exp")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert problems == []
    assert n.value.tolist() == [80, 80, 80]


# -- processes -------------------------------------------------------------------------------------


def in_child(body: str) -> tuple[int, str]:
    """Run a body in a child that is forked after a compiled function ran on all threads.

    Gives how the child ended and what it said. A child that hangs is ended by a signal.
    """
    script = f"""
import os, signal, sys
import numpy as np
import symgraph as sg
x = sg.matrix("x")
f = sg.function([x], [sg.exp(x) + sg.sin(x), x @ x], backend="cpu")
array = np.ones((700, 700), "float32")
expected = f(array)
child = os.fork()
if child == 0:
    signal.alarm(15)
    try:
        {body}
    except sg.errors.SymgraphError as problem:
        print(type(problem).__name__, flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
again = f(array)
assert all((a == b).all() for a, b in zip(again, expected))
sys.exit(100 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=200,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
HUNG = 100 + signal.SIGALRM if hasattr(signal, "SIGALRM") else 0


@forks
def test_a_child_may_not_call_its_parents_functions() -> None:
    assert in_child("f(array); print('computed')") == (0, "GraphError")


@forks
@pytest.mark.parametrize("result", ["sg.exp(x) * 2", "x @ x"], ids=["kernel", "library"])
def test_a_child_that_compiles_its_own_does_not_hang(result: str) -> None:
    status, said = in_child(
        f"g = sg.function([x], {result}, backend='cpu')\n"
        "        r = sg.function([x], " + result + ", backend='reference')\n"
        "        print(np.allclose(g(array), r(array), 1e-4))"
    )
    assert status != HUNG, "it hangs"
    assert status == 0
    assert said == "True" or said.endswith("Error")


# -- whole numbers ---------------------------------------------------------------------------------

WHOLE = {
    "quotient and rest": lambda x, y: (x // y) * y + x % y,
    "their sum": lambda x, y: (x // y) + x % y,
    "by a number": lambda x, y: (x // 7) * 7 + x % 7 - (x // -3) * 2 + x % -3,
    "by zero": lambda x, y: x // 0 + x % 0,
    "nested": lambda x, y: ((x // 7) // 3) * 21 + ((x // 7) % 3) * 7 + x % 7,
    "a product divided": lambda x, y: (x * 6) // 3,
    "a sum divided": lambda x, y: (x + x) // 2,
    "a large number added": lambda x, y: x + 2**62 + 2**62 + 2**62,
    "large factors": lambda x, y: x * 2**40 * 2**40,
}


@pytest.mark.parametrize("kind", list(WHOLE))
def test_whole_numbers_wrap_as_they_do_in_numpy(kind: str) -> None:
    numbers = [7, -7, 0, 3, 2**62, -(2**63), 2**63 - 1, 12345678901234567]
    x = sg.tensor("x", (len(numbers),), "int64")
    y = sg.tensor("y", (len(numbers),), "int64")
    result = WHOLE[kind](x, y)
    found, expected = both([x, y], result, numbers, [3, -2, 5, 0, 5, -1, 7, -9])
    np.testing.assert_array_equal(found, expected)
