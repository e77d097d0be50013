"""Threads, forks, Ctrl-C and lifetimes: one object for equal values, states that are never torn."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import GraphError
from symgraph.graph.node import alive
from symgraph.graph.scalar import const


@pytest.fixture
def _restless() -> Iterator[None]:
    """Switch threads as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _together(*tasks: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as problem:  # noqa: BLE001 - handed to the test
            failures.append(problem)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.usefixtures("_restless")
def test_threads_that_build_the_same_graph_get_the_same_nodes() -> None:
    x = sg.vector("x", "float64")
    built: list[sg.Value] = []
    scalars: list[list[object]] = []
    sizes: list[object] = []

    def build() -> None:
        value, size = x, sg.dim("B")
        for number in range(100):
            value = sg.sin(value * float(number % 7)) / (sg.exp(value) + float(number))
            size = size * 2 + number if number < 20 else (size + number) // 2
        built.append(value)
        sizes.append(size)
        scalars.append([const(float(n), "float32") * 3.5 for n in range(300)])

    _together(*[build] * 8)
    assert all(value is built[0] for value in built)
    assert all(size is sizes[0] for size in sizes)
    assert all(a is b for row in scalars for a, b in zip(row, scalars[0]))


@pytest.mark.usefixtures("_restless")
def test_two_functions_that_update_one_variable_take_turns() -> None:
    n = sg.shared(0, "n")
    one = sg.function([], n, updates={n: n + 1})
    two = sg.function([], n * 2, updates={n: n + 1})
    _together(*[lambda f=f: [f() for _ in range(100)] for f in (one, two, one, two)])
    assert n.value == 400


@pytest.mark.usefixtures("_restless")
def test_a_reader_sees_all_updates_of_a_call_or_none() -> None:
    a, b = sg.shared(0, "a"), sg.shared(0, "b")
    step = sg.function([], None, updates={a: a + 1, b: b + 1})
    difference = sg.function([], a - b)
    seen: list[int] = []
    _together(
        lambda: [step() for _ in range(200)],  # type: ignore[arg-type, return-value]
        lambda: seen.extend(int(difference()) for _ in range(200)),
    )
    assert set(seen) == {0}


@pytest.mark.usefixtures("_restless")
def test_many_sizes_from_many_threads() -> None:
    m = sg.matrix("m")
    f = sg.function([m], m.sum())

    def call(columns: int) -> None:
        for rows in range(150):
            assert f(np.ones((rows % 90 + 1, columns), np.float32)) == (rows % 90 + 1) * columns

    _together(*[lambda k=k: call(k) for k in range(1, 6)])


INTERRUPTED = """
import os, random, signal, sys, threading, time
import numpy as np
import symgraph as sg

sg.function([], sg.constant(1.0))()  # importlib is not ready for Ctrl-C: all is imported
weights = [sg.shared(np.zeros(50), f"w{i}") for i in range(10)]
step = sg.function([], None, updates={w: w + 1 for w in weights})
chance, over = random.Random(0), threading.Event()

def interrupt():
    while not over.wait(chance.uniform(0.0002, 0.002)):
        os.kill(os.getpid(), signal.SIGINT)

def states():
    return {float(w.storage.array[place]) for w in weights for place in (0, -1)}

armed = False

def pressed(number, frame):  # as Python takes Ctrl-C, but only where the loop below waits for it
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, pressed)
thread = threading.Thread(target=interrupt)
thread.start()
interrupts = calls = 0
while interrupts < 60:
    try:
        while True:
            armed = True  # each time: importlib swallows what arrives in its callbacks
            step()
            calls += 1
    except KeyboardInterrupt:
        interrupts += 1
    assert len(states()) == 1, states()
over.set()
thread.join()
before = states().pop()
assert calls <= before <= calls + interrupts
other = threading.Thread(target=step, daemon=True)
other.start()
other.join(10)
assert not other.is_alive(), "a lock was left shut"
assert states() == {before + 1}
print("whole")
"""


def test_ctrl_c_at_random_moments_leaves_the_state_before_or_after_a_call() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "whole", done.stderr[-2000:]


FORKED = """
import os, sys
import symgraph as sg

x = sg.vector("x")
f = sg.function([x], x + 1, name="parent")
child = os.fork()
if child == 0:
    try:
        f([1])
    except sg.errors.GraphError as problem:
        print(problem)
    y = sg.vector("y")
    print(sg.function([y], sg.exp(x).type.ndim + y)([1]).tolist())
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(f([1]).tolist())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
def test_after_fork_a_call_raises_and_building_works() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120
    )
    assert "parent: was compiled before this process was forked off" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-2:] == ["[2.0]", "[2.0]"]


def test_functions_are_neither_pickled_nor_copied() -> None:
    f = sg.function([], sg.constant(1.0), name="one")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(GraphError, match="one: compiled functions cannot be copied"):
            attempt(f)


def _train_once() -> list[weakref.ref[object]]:
    x = sg.matrix("x")
    weights = sg.shared(np.ones((3, 3), np.float32), "weights")
    loss = (sg.tanh(x @ weights) ** 2).sum()
    step = sg.function([x], loss, updates={weights: weights - 0.1 * sg.grad(loss, weights)})
    step(np.ones((2, 3), np.float32))
    assert sg.show(step)
    return [weakref.ref(step), weakref.ref(loss), weakref.ref(weights)]


def test_functions_and_their_nodes_die() -> None:
    _train_once()
    gc.collect()
    before = alive()
    for _ in range(5):
        references = _train_once()
    gc.collect()
    assert all(reference() is None for reference in references)
    assert alive() == before
