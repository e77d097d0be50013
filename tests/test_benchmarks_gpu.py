"""The benchmarks for GPUs as far as they go without one: what they say, check and keep.

Nothing is timed, and no peer is needed; what all scripts have in common is in test_harness.py and
test_benchmarks_smoke.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = ("alexnet", "kernels", "mlp", "resnet")

WITHOUT_GPU = """
import runpy, sys
scripts = sys.argv[1:]
sys.path[:0] = [{folder!r}, {root!r}]
import symgraph.backends.cuda.status as cuda
cuda.status = lambda: cuda.Status(problem="there is no NVIDIA driver", fix="install one")
for script in scripts:
    sys.argv = [script, "--quick"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        print(end.code)
"""

# A step on shared variables has the loss and the gradients of one that is given its batch, and
# operations on them compute what they should.
RESIDENT = """
import sys
sys.path[:0] = [{folder!r}, {root!r}]
import numpy as np
import cpu_mlp, gpu, ours
from harness import relative_error
from symgraph.nn import Dropout
plain = cpu_mlp.problem((5, 7, 3), 4)
plain.net.layers.insert(2, Dropout(0.5))
problem = ours.Problem(plain.net, plain.optimizer, plain.images, plain.labels)
wait = gpu.waiting("cpu")
ours.invert_dropout(problem.net)
given = ours.training(problem, "fp32", "reference").result()
resident = ours.resident_training(problem, "fp32", "reference", wait)
resident.run()
assert relative_error(resident.result(), given) < 1e-6
logits = ours.inference(problem, "fp32", "reference").result()
kept = ours.resident_inference(problem, "fp32", "reference", wait)
assert relative_error(kept.result(), logits) < 1e-6
assert len(gpu.host_times(kept, 2)) == 2 * gpu.CALLS

import gpu_kernels
expected = {{
    "add": lambda x, y: x + y,
    "turned": lambda x, y: x.T + y,
    "bias_relu": lambda x, b: np.maximum(x + b, 0),
    "row_sum": lambda x: x.sum(1),
    "column_sum": lambda x: x.sum(0),
    "full_sum": lambda x: x.sum(),
}}
assert gpu_kernels.EXPRESSIONS.keys() == gpu_kernels.KERNELS.keys()
for case, kernel in gpu_kernels.KERNELS.items():
    arrays = gpu_kernels.drawn(gpu_kernels.smaller(kernel).operands)
    found = gpu_kernels.ours_of(case, arrays, "reference", wait).result()
    if case in expected:
        assert relative_error(found, expected[case](*arrays)) < 1e-5, case
    if kernel.images:
        last = gpu_kernels.ours_of(case, arrays, "reference", wait, last=True).result()
        assert relative_error(last, found) < 1e-6, case
weight, gradient = gpu_kernels.drawn(((9,), (9,)))
once = gpu_kernels.our_sgd(weight, gradient, "reference", wait).result()
direction = gradient + gpu_kernels.DECAY * weight
assert relative_error(once, weight - gpu_kernels.LR * direction) < 1e-6
assert gpu_kernels.sampled(np.zeros((8, 1 << 20))).shape == (4, 1 << 20)
"""

# A row and a row that is left out are in the file at once; a peer that fails does not race.
KEPT = """
import argparse, json, sys
from pathlib import Path
sys.path[:0] = [{folder!r}, {root!r}]
import gpu
from harness import Contestant
chosen = argparse.Namespace(out=Path({out!r}))
benchmark = gpu.GpuBenchmark("kept", rounds=1, warmup=0, chosen=chosen)
def fail():
    raise RuntimeError("out of memory\\nand more")
fine = Contestant("fine", lambda: 2.0, own_clock=True, check=lambda: 1.0)
bad = Contestant("bad", fail)
wrong = Contestant("wrong", lambda: 2.0, own_clock=True, check=lambda: 9.0)
ours = Contestant("ours", lambda: 1.0, own_clock=True, check=lambda: 1.0)
benchmark.case = "case"
row = benchmark.compare("case", ours, [bad, wrong, fine], target=1.0, reference=1.0, within=2.0)
assert (row.ratio, row.versus) == (2.0, "fine")
assert "case: does not race: bad: RuntimeError: out of memory" in benchmark.notes
assert any(note.startswith("case: does not race: wrong: Arithm") for note in benchmark.notes)
assert "case: microseconds: ours 1000000.0, fine 2000000.0" in benchmark.notes
benchmark.leave_out("next", "no memory")
assert gpu.made(benchmark, "next", {{"bad": fail}}) == []
calls = []
watched = gpu.watched(benchmark, "next", Contestant("one", lambda: calls.append(1)))
watched.result(), watched.result()
assert len(calls) == 1
"""


def run(code: str, *arguments: str, **names: str) -> subprocess.CompletedProcess[str]:
    paths = {"folder": str(FOLDER), "root": str(FOLDER.parent), **names}
    return subprocess.run(
        [sys.executable, "-c", code.format(**paths), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_script_is_there() -> None:
    assert {path.stem for path in FOLDER.glob("gpu_*.py")} == {f"gpu_{name}" for name in SCRIPTS}


def test_without_a_gpu_a_script_says_so() -> None:
    done = run(WITHOUT_GPU, *(str(FOLDER / f"gpu_{name}.py") for name in SCRIPTS))
    wanted = "This benchmark needs an NVIDIA GPU, and there is no NVIDIA driver (fix: install one)."
    assert done.stderr.splitlines() == [wanted] * len(SCRIPTS)
    assert done.stdout.split() == ["2"] * len(SCRIPTS)


def test_steps_and_operations_on_shared_variables() -> None:
    done = run(RESIDENT)
    assert done.returncode == 0, done.stderr


def test_rows_are_kept_and_failures_told(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    done = run(KEPT, out=str(out))
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text("utf-8"))
    assert [row["case"] for row in report["rows"]] == ["case"]
    assert report["left_out"] == ["next: no memory"]
    assert "first result of one after 0.0 s" in done.stderr


def test_settings_on_the_command_line_are_those_of_pytorch() -> None:
    shown = (FOLDER / "gpu.py").read_text("utf-8")
    settings = re.search(r"SETTINGS = \{(.*?)\}", shown, re.DOTALL)
    assert settings is not None
    names = re.findall(r'"[a-z-]+": "([A-Z_]+)"', settings[1])
    peers = (FOLDER / "peers" / "torch_nets.py").read_text("utf-8")
    defined = re.findall(r"^([A-Z_]+) = Setting\(", peers, re.MULTILINE)
    assert len(names) > 5
    assert set(names) <= set(defined)
