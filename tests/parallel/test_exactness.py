"""N workers are one: with dropout, crops and mirrors on, the same numbers but for rounding."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.parallel import Alone, launch
from tests.parallel import program

PROGRAM = Path(program.__file__)
CONFIGURATIONS = [
    {"average": average, "momentum": momentum, "steps": 50, "batch": batch}
    for average in ("params", "grads")
    for momentum, batch in ((0.0, 8), (0.9, 8), (0.9, 7))
]


def run(tmp_path: Path, workers: int, task: str, **options: Any) -> dict[str, Any]:
    said: list[str] = []
    target = tmp_path / "results.npz"
    command = [sys.executable, str(PROGRAM), task, json.dumps(options), str(target)]
    outcome = launch(command, workers, say=said.append)
    assert (outcome.status, said) == (0, [])
    with np.load(target) as found:
        return dict(found)


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """Train on the whole batch, in this process."""
    return program.exact(Alone(), {"configurations": CONFIGURATIONS})


@pytest.mark.parametrize(
    "workers", [2, *(pytest.param(count, marks=pytest.mark.full) for count in (3, 4))]
)
def test_many_workers_are_one(tmp_path: Path, alone: dict[str, Any], workers: int) -> None:
    """30 images in batches of 8 and 7 leave 6 and 2 for the last: some ranks have none."""
    found = run(tmp_path, workers, "exact", configurations=CONFIGURATIONS)
    assert found.keys() == alone.keys()
    for name, expected in alone.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-11, atol=1e-11, err_msg=name)
    assert np.ptp(alone["0.loss"]) > 0.1  # it learned something
    assert not np.array_equal(alone["0.last.weight"], alone["1.last.weight"])


@pytest.mark.parametrize("rows", [[4, 4], [5, 2], [3, 1, 4]])
@pytest.mark.parametrize("every", [1, 3])
def test_averages_every_so_many_steps(tmp_path: Path, rows: list[int], every: int) -> None:
    """Beside the same rule written in NumPy, worker by worker."""
    steps = 10
    found = run(tmp_path, len(rows), "linear", rows=rows, every=every, steps=steps)
    random = np.random.default_rng(1)
    starts = np.cumsum([0, *rows])
    w = [np.array([1.0, -2.0, 0.5]) for _ in rows]
    v = [np.zeros(3) for _ in rows]
    shares = np.array(rows) / sum(rows)
    for step in range(steps):
        xs, ys = random.normal(size=(starts[-1], 3)), random.normal(size=starts[-1])
        for rank in range(len(rows)):
            part = slice(starts[rank], starts[rank + 1])
            gradient = 2 * xs[part].T @ (xs[part] @ w[rank] - ys[part]) / rows[rank]
            v[rank] = 0.9 * v[rank] - 0.05 * gradient
            w[rank] = w[rank] + v[rank]
        if (step + 1) % every == 0:
            w = [sum(share * one for share, one in zip(shares, w))] * len(rows)
            v = [sum(share * one for share, one in zip(shares, v))] * len(rows)
        np.testing.assert_allclose(found["w"][step], w[0], rtol=1e-12, atol=1e-12)
    assert found["settled"].tolist() == [(step + 1) % every == 0 for step in range(steps)]


def test_workers_draw_what_one_would(tmp_path: Path) -> None:
    """The published program drew the same numbers on both GPUs; here rows have their own."""
    alone = program.draws(Alone(), {"rows": 5})["loss"]
    found = run(tmp_path, 2, "draws", rows=5)["loss"]
    np.testing.assert_allclose(found, alone, rtol=1e-6)
    assert len(set(alone.tolist())) > 1


@pytest.mark.parametrize(
    ("average", "states"),
    [
        ("params", 2),
        pytest.param("params", 5, marks=pytest.mark.full),
        pytest.param("grads", 5, marks=pytest.mark.full),
    ],
)
def test_alexnet_in_float32(tmp_path: Path, average: str, states: int) -> None:
    """From the first states of a run, dropout on: weights and momenta by ratios of norms."""
    found = run(tmp_path, 2, "alexnet", rows=4, states=states, average=average)
    assert found["errors"].shape == (states,)
    assert found["errors"].max() < 1e-6
