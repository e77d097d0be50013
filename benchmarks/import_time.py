"""The cost of `import symgraph` beyond that of NumPy, NetworkX and ml_dtypes.

Each time is that of a fresh interpreter, and the kinds take turns. The first row is read inside,
after the three are loaded; the second is of whole processes, from start to exit, and scatters more.
Bytecode is cached, as it is for whoever imports a package a second time; where the environment
forbids that, compiling the sources takes longer than everything else together.

    python benchmarks/import_time.py [--quick]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from harness import Contestant, Row, spread, start

DEPENDENCIES = "import numpy, networkx, ml_dtypes"
LIMIT = 0.15
CACHED = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

AFTER = f"""
{DEPENDENCIES}
from time import perf_counter
start = perf_counter()
import symgraph
print(perf_counter() - start)
"""


def interpreter(code: str) -> str:
    """Run code in a fresh interpreter and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, env=CACHED
    )
    return done.stdout


def main() -> int:
    """Measure both ways, interleaved."""
    benchmark = start("import_time", __doc__, rounds=21)
    inside = Contestant("inside", lambda: float(interpreter(AFTER)), own_clock=True)
    without = Contestant("without", lambda: interpreter(DEPENDENCIES))
    with_it = Contestant("with it", lambda: interpreter(DEPENDENCIES + ", symgraph"))
    taken = benchmark.times([inside, without, with_it])
    benchmark.limit("import symgraph, after its dependencies", taken["inside"], LIMIT)
    allowed = [seconds + LIMIT for seconds in taken["without"]]
    ratios = [limit / ours for limit, ours in zip(allowed, taken["with it"], strict=True)]
    benchmark.add(
        Row(
            f"whole process, against one without symgraph + {LIMIT} s",
            statistics.median(taken["with it"]),
            statistics.median(allowed),
            "s",
            statistics.median(ratios),
            spread(ratios),
            target=1.0,
            versus="limit",
        )
    )
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
