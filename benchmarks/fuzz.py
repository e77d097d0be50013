"""Random programs of up to 200 nodes through the whole pipeline, each compared with NumPy.

A program has a number, its seed; it is drawn together with a plain NumPy evaluation (`tests/
random_maker.py`), compiled once, called with two choices of sizes and again with the first. Wrong
results, errors, equal calls that differ, crashes and hangs are finds. Runs go on where the ledger
beside this file ends, so that they add up. What was run is written there also after Ctrl-C.

    python benchmarks/fuzz.py [--backend cpu|shim|reference] [--programs 2000] [--limit 120]
    python benchmarks/fuzz.py --seed 123 [--shrink]
    python benchmarks/fuzz.py --totals

`shim` is the CUDA path with kernels compiled by g++ for this CPU; `reference` compiles no kernels,
and so tests gradients and passes at several times the speed.
"""

from __future__ import annotations

import argparse
import datetime
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.random_runs import BACKENDS, Outcome, run_all, run_one
from tests.random_shrink import Case, script, shrunk

LEDGER = Path(__file__).with_name("fuzz_ledger.tsv")
COLUMNS = ("backend", "first", "last", "agreed", "finds", "commit", "date", "seeds of finds")
PROGRAMS = {"cpu": 2000, "shim": 300, "reference": 2000}


@dataclass
class Run:
    """What was run: from the first seed on, without a gap."""

    backend: str
    first: int
    commit: str = field(default_factory=lambda: current_commit())  # where it began
    outcomes: list[Outcome] = field(default_factory=list)

    def row(self) -> str:
        """Give the line of the ledger."""
        finds = [one for one in self.outcomes if one.kind != "agreed"]
        last = self.first + len(self.outcomes) - 1
        cells = (
            self.backend, self.first, last, len(self.outcomes) - len(finds), len(finds),
            self.commit, datetime.date.today().isoformat(),
            " ".join(f"{one.seed}:{one.kind}" for one in finds),
        )  # fmt: skip
        return "\t".join(map(str, cells)).rstrip()


def rows() -> list[dict[str, str]]:
    """Read the ledger."""
    lines = LEDGER.read_text(encoding="utf-8").splitlines() if LEDGER.exists() else []
    return [dict(zip(COLUMNS, line.split("\t"))) for line in lines[1:]]


def next_seed(backend: str) -> int:
    """Give the seed after the last one that was run."""
    return max((int(row["last"]) + 1 for row in rows() if row["backend"] == backend), default=0)


def write(run: Run) -> None:
    """Add a run to the ledger."""
    if not run.outcomes:
        return
    if not LEDGER.exists():
        LEDGER.write_text("\t".join(COLUMNS) + "\n", encoding="utf-8")
    with LEDGER.open("a", encoding="utf-8") as file:
        file.write(run.row() + "\n")


def current_commit() -> str:
    """Name the commit, with a plus where files differ from it."""
    folder = Path(__file__).parent
    git = ("git", "-C", str(folder))
    done = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True
    )
    return done.stdout.strip() + "+" * bool(changed.stdout.strip()) or "unknown"


def totals() -> str:
    """Add up the ledger, by backend."""
    lines = []
    for backend in BACKENDS:
        own = [row for row in rows() if row["backend"] == backend]
        count = {name: sum(int(row[name]) for row in own) for name in ("agreed", "finds")}
        lines.append(f"{backend}: {sum(count.values())} programs in {len(own)} runs, "
                     f"{count['finds']} finds")  # fmt: skip
    return "\n".join(lines)


def fuzz(backend: str, count: int, first: int, limit: float) -> Run:
    """Run programs, with a line that says how far it is; Ctrl-C ends it."""
    run, begin = Run(backend, first), time.perf_counter()
    refused: Counter[str] = Counter()
    try:
        for outcome in run_all(range(first, first + count), backend, limit):
            run.outcomes.append(outcome)
            refused.update(outcome.refused)
            if outcome.kind != "agreed":
                print(f"\r\033[K{outcome.seed} {outcome.kind}: {outcome.said}", file=sys.stderr)
            _progress(run, count, time.perf_counter() - begin)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    print(file=sys.stderr)
    calls = sorted(outcome.nodes for outcome in run.outcomes)
    if calls:
        middle, most = calls[len(calls) // 2], calls[-1]
        print(f"steps: median {middle}, most {most}; steps not taken: {dict(refused)}")
    return run


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _progress(run: Run, count: int, seconds: float) -> None:
    done = len(run.outcomes)
    bar = "#" * (30 * done // count)
    left = seconds / done * (count - done)
    text = f"[{bar:<30}] {done}/{count} {seconds:.0f} s, {left:.0f} s left"
    end = "\n" if not sys.stderr.isatty() and done % 20 == 0 else ""
    if sys.stderr.isatty() or end:
        print(f"\r{text}", end=end, file=sys.stderr, flush=True)


def one(backend: str, seed: int, limit: float, shrinks: bool) -> int:
    """Run the program of a seed again; shrink it if asked."""
    case = Case.of(seed)
    print(case.program)
    outcome = run_one(case, backend, limit)
    print(f"{seed} {outcome.kind}: {outcome.said}")
    if shrinks and outcome.kind != "agreed":

        def fails(smaller: Case) -> bool:
            found = run_one(smaller, backend, limit)
            print(f"{len(smaller.program.calls)} steps: {found.kind}", file=sys.stderr)
            return found.kind == outcome.kind

        print(script(shrunk(case, fails), backend))
    return int(outcome.kind != "agreed")


def main() -> int:
    """Run the next seeds, or one again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=BACKENDS, default="cpu", help="(%(default)s)")
    parser.add_argument("--programs", type=int, help="how many (2000, with the shim 300)")
    parser.add_argument("--first", type=int, help="the first seed (after the ledger's last)")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one (%(default)s)")
    parser.add_argument("--seed", type=int, help="run this program only, and write no ledger")
    parser.add_argument("--shrink", action="store_true", help="reduce it while it fails, print it")
    parser.add_argument("--totals", action="store_true", help="add up the ledger")
    parser.add_argument("--quick", action="store_true", help="a dozen by default, and no ledger")
    given = parser.parse_args()
    if given.totals:
        print(totals())
        return 0
    if given.seed is not None:
        return one(given.backend, given.seed, given.limit, given.shrink)
    first = next_seed(given.backend) if given.first is None else given.first
    count = given.programs or (12 if given.quick else PROGRAMS[given.backend])
    for each in (signal.SIGINT, signal.SIGTERM):  # a shell lets what it starts behind ignore Ctrl-C
        signal.signal(each, _stop)
    run = fuzz(given.backend, count, first, given.limit)
    if not given.quick:
        write(run)
    print(run.row() if run.outcomes else "nothing was run")
    return int(any(one.kind != "agreed" for one in run.outcomes))


if __name__ == "__main__":
    sys.exit(main())
