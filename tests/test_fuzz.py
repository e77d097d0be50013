"""Random programs in plenty: a few of them, what becomes of crashes and hangs, and the ledger."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import fuzz
from symgraph.backends.cpu.compiler import unavailable
from tests.random_checks import check
from tests.random_graphs import Program, allowed
from tests.random_maker import wide_program
from tests.random_runs import Outcome, _in_child, run_all
from tests.random_shrink import Case, script, shrunk

needs_compiler = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is one")
WHOLE = range(1000, 1200)


def quiet(stage: Any) -> None:
    """Listen to nobody."""


@pytest.mark.parametrize(
    ("backend", "count", "most"),
    [("reference", 24, 40), pytest.param("cpu", 4, 12, marks=needs_compiler)],
)
def test_programs_with_loops_and_branches_agree_with_numpy(
    backend: str, count: int, most: int
) -> None:
    for seed in range(count):
        program = wide_program(seed, most)
        check(program, Case.of(seed, program).derivatives, backend, quiet)


@pytest.mark.full
@needs_compiler
def test_two_hundred_large_programs_agree_with_numpy() -> None:
    finds = [one for one in run_all(WHOLE, "cpu", 300.0) if one.kind != "agreed"]
    assert not finds


def test_a_seed_gives_one_program() -> None:
    one, other = wide_program(3), wide_program(3)
    assert repr(one) == repr(other)
    for lanes, again in zip(one.results, other.results, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(lanes, again, strict=True))


def test_what_is_allowed_is_what_perturbations_do() -> None:
    exact = np.array([1.0, 100.0])
    calm = allowed(exact, [exact + 1e-9, exact - 1e-9], "float32")
    assert np.all(calm >= 64e-9)
    assert np.all(calm < 1e-3)
    wild = allowed(exact, [exact + np.array([0.0, 1e-3]), exact], "float32")
    assert wild[1] >= 0.064
    assert wild[0] >= 0.064 / 8
    assert not allowed(exact.astype(np.int64), [], "int64").any()


# -- processes that end ----------------------------------------------------------------------------


def outcomes(make: Callable[..., Any], limit: float, folder: Path) -> list[Outcome]:
    """Run two seeds, of which the first does something."""
    return list(_in_child([7, 8], "reference", limit, folder, make))


def test_a_crash_is_told_and_ends_the_process(tmp_path: Path) -> None:
    def crash(seed: int, says: Any) -> Any:
        says("draw")
        os.kill(os.getpid(), signal.SIGKILL)

    (found,) = outcomes(crash, 60.0, tmp_path)
    assert (found.seed, found.kind) == (7, "crash")
    assert found.said == f"signal {int(signal.SIGKILL)}; at: draw"


def test_a_hang_is_told_and_ended(tmp_path: Path) -> None:
    def hang(seed: int, says: Any) -> Any:
        says("compile")
        time.sleep(600)

    begin = time.monotonic()
    (found,) = outcomes(hang, 1.0, tmp_path)
    assert (found.kind, found.said) == ("hang", "1 s were not enough; at: compile")
    assert time.monotonic() - begin < 60


def test_errors_and_agreement(tmp_path: Path) -> None:
    def wrong(seed: int, says: Any) -> Case:
        case = Case.of(seed, wide_program(seed, 6))
        if seed == 7:
            slot = case.program.outputs[0]
            case.program.results[slot] = [one + 1 for one in case.program.results[slot]]
        return case

    first, second = outcomes(wrong, 120.0, tmp_path)
    assert (first.kind, second.kind) == ("wrong", "agreed")
    assert "NumPy has" in first.said


# -- smaller programs ------------------------------------------------------------------------------


def has(program: Program, step: str) -> bool:
    return any(call.step.name == step for call in program.calls)


def test_a_program_shrinks_to_the_step_that_fails() -> None:
    seed = next(seed for seed in range(100) if has(wide_program(seed, 30), "scan"))
    case = Case.of(seed, wide_program(seed, 30))
    small = shrunk(case, lambda one: has(one.program, "scan"))
    assert [call.step.name for call in small.program.calls] == ["scan"]
    assert not small.derivatives
    check(small.program, small.derivatives, "reference", quiet)
    space: dict[str, Any] = {"print": lambda *found: space.setdefault("found", found)}
    exec(script(small, "reference"), space)
    ((found,),) = space["found"]
    exact, *others = small.program.results[-1][:3]
    difference = np.abs(found.astype(np.float64) - exact)
    assert np.all(difference <= allowed(exact, others, small.program.dtypes[-1]))


# -- the ledger ------------------------------------------------------------------------------------


def test_runs_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "LEDGER", tmp_path / "ledger.tsv")
    assert fuzz.next_seed("cpu") == 0
    fine = [Outcome(seed, "agreed") for seed in range(3)]
    fuzz.write(fuzz.Run("cpu", 0, "abc", [*fine, Outcome(3, "wrong", "much")]))
    fuzz.write(fuzz.Run("shim", 0, "abc", fine))
    fuzz.write(fuzz.Run("cpu", 4, "abc", []))
    assert (fuzz.next_seed("cpu"), fuzz.next_seed("shim")) == (4, 3)
    assert fuzz.rows()[0]["seeds of finds"] == "3:wrong"
    cpu, shim, reference = fuzz.totals().splitlines()
    assert cpu == "cpu: 4 programs in 1 runs, 1 finds"
    assert shim == "shim: 3 programs in 1 runs, 0 finds"
    assert reference == "reference: 0 programs in 0 runs, 0 finds"


def test_the_ledger_is_whole() -> None:
    for row in fuzz.rows():
        count = int(row["last"]) - int(row["first"]) + 1
        assert count == int(row["agreed"]) + int(row["finds"])
        assert len(row.get("seeds of finds", "").split()) == int(row["finds"])
