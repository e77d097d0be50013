"""The benchmark harness: fair turns, checked results, ratios, and the line for machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness import Benchmark, Contestant, relative_error, spread, table


def scripted(name: str, seconds: list[float], log: list[str] | None = None) -> Contestant:
    """A contestant whose times are given, not measured."""
    times = iter(seconds)

    def run() -> float:
        if log is not None:
            log.append(name)
        return next(times)

    return Contestant(name, run, own_clock=True)


def test_contestants_take_turns_and_the_first_changes() -> None:
    log: list[str] = []
    each = [scripted(name, [1.0] * 9, log) for name in "abc"]
    Benchmark("turns", rounds=3, warmup=1).times(each)
    assert "".join(log) == "abc" + "abc" + "bca" + "cab"


def test_warm_up_is_not_counted() -> None:
    taken = Benchmark("warm", rounds=2, warmup=2).times([scripted("a", [9.0, 9.0, 1.0, 2.0])])
    assert taken == {"a": [1.0, 2.0]}


def test_names_are_distinct() -> None:
    with pytest.raises(ValueError, match=r"names of their own: \['a', 'a'\]"):
        Benchmark("twice").times([scripted("a", []), scripted("a", [])])


def test_the_peer_is_the_best_one_and_ratios_are_taken_round_by_round() -> None:
    benchmark = Benchmark("race", rounds=3, warmup=0)
    row = benchmark.compare(
        "case",
        scripted("ours", [1.0, 1.0, 2.0, 1.0]),
        [scripted("slow", [1.0, 1.0, 9.0, 9.0, 9.0]), scripted("fast", [1.0, 3.0, 4.0, 3.0])],
        target=2.0,
    )
    assert (row.versus, row.ours, row.peer) == ("fast", 1.0, 3.0)
    assert row.ratio == 3.0
    assert row.spread == pytest.approx((2.2, 3.0))
    assert row.error == 0.0
    assert row.met


def test_a_wrong_result_is_never_timed() -> None:
    benchmark = Benchmark("wrong", rounds=1, warmup=0)
    ours = Contestant("ours", lambda: np.array([1.0, 2.1]))
    peer = Contestant("peer", lambda: np.array([1.0, 2.0]))
    with pytest.raises(ArithmeticError, match=r"^case: ours: error 5.0e-02 > 1.0e-03$"):
        benchmark.compare("case", ours, [peer], target=1.0, tolerance=1e-3)
    assert benchmark.rows == []
    row = benchmark.compare("case", ours, [peer], target=1.0, tolerance=0.06)
    assert row.error == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1.0], r"shape \(1,\) instead of \(2,\)"),
        ([1.0, np.nan], "infinities or NaNs in other places"),
    ],
)
def test_results_that_cannot_be_compared(result: list[float], message: str) -> None:
    with pytest.raises(ArithmeticError, match=message):
        relative_error(result, [1.0, 2.0])


def test_relative_error_of_special_values() -> None:
    assert relative_error([np.nan, 1.0], [np.nan, 1.0]) == 0.0
    assert relative_error([np.inf], [np.inf]) == 0.0
    assert relative_error([0.5], [0.0]) == 0.5
    assert relative_error([], []) == 0.0


def test_a_limit_and_a_ceiling() -> None:
    benchmark = Benchmark("bounds")
    limit = benchmark.limit("limit", [0.2, 0.3, 0.1], 0.1)
    assert (limit.ratio, limit.met) == (0.5, False)
    ceiling = benchmark.ceiling("ceiling", [80.0, 90.0], 100.0, 0.8, "GFLOP/s")
    assert (ceiling.ratio, ceiling.met) == (0.85, True)
    text = table(benchmark.rows).splitlines()
    assert "1.00 missed" in text[1]
    assert "missed" not in text[2]


def test_spread_is_of_percentiles() -> None:
    assert spread([float(value) for value in range(11)]) == (1.0, 9.0)


@pytest.mark.parametrize(("strict", "status"), [(False, 0), (True, 1)])
def test_the_last_line_is_one_json_object(
    capsys: pytest.CaptureFixture[str], strict: bool, status: int
) -> None:
    benchmark = Benchmark("name", quick=True, strict=strict)
    benchmark.limit("slow", [2.0], 1.0)
    assert benchmark.finish() == status
    last = capsys.readouterr().out.splitlines()[-1]
    report = json.loads(last)
    assert report["benchmark"] == "name"
    assert report["machine"]["threads"] >= 1
    assert report["machine"]["versions"]["numpy"] == np.__version__
    (row,) = report["rows"]
    assert (row["case"], row["ours"], row["peer"], row["ratio"]) == ("slow", 2.0, 1.0, 0.5)
    assert (row["unit"], row["spread"], row["target"]) == ("s", [0.5, 0.5], 1.0)


MARK = "=== help ==="
HELP = f"""
import runpy, sys
from pathlib import Path
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    sys.path[0] = str(Path(path).parent)
    print({MARK!r})
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""


def test_every_script_explains_itself() -> None:
    folder = Path(__file__).parent.parent / "benchmarks"
    scripts = [path for path in folder.glob("*.py") if "__main__" in path.read_text("utf-8")]
    assert scripts
    done = subprocess.run(  # in one process, which imports everything once
        [sys.executable, "-c", HELP, *map(str, scripts)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    texts = done.stdout.split(MARK)[1:]
    assert len(texts) == len(scripts)
    for text in texts:
        assert "--quick" in text
