"""The benchmarks against other libraries: they explain themselves and say what they lack.

Nothing is timed here, and no peer is needed; `--help` of every script is in test_harness.py.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import Benchmark, Contestant, relative_error, repeated

FOLDER = Path(__file__).parent.parent / "benchmarks"
CPU = (
    "accuracy", "alexnet", "compile", "guard", "kernels", "memory", "mlp", "resnet", "roofline",
    "zoo",
)  # fmt: skip
NO_PEERS_NEEDED = ("compile", "guard")
SHARED = (
    "final_accuracy", "gpu", "groups", "kinks", "machine", "oracle", "ours", "peers",
    "peers.torch_settings", "races", "roofline", "workers", "zoo",
)  # fmt: skip

# An import of a peer fails in the child as where it is not installed.
WITHOUT_PEERS = """
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name in ("torch", "jax", "pytensor") else find(name, *rest)
)
sys.argv = sys.argv[1:]
sys.path.insert(0, {folder!r})
import peers.torch_settings
peers.torch_settings.settle = lambda: None
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# Prints errors of a step in float64 on the sides that it took, and on sides of which one differs.
ON_SIDES = """
import sys
from pathlib import Path
sys.path[:0] = [{folder!r}, {root!r}]
from kinks import OnSides, sides
from oracle import NARROW, Job, errors, states
job = Job(1, 2, "float64", NARROW)
state, = states(Job(1, 2, model=NARROW), [1], Path({states!r}))
again, = states(Job(1, 2, model=NARROW), [1], Path({states!r}))  # read from its file
assert all((again.weights[name] == array).all() for name, array in state.weights.items())
job.load(state)
function = job.function([*job.masks, *job.activations], backend="reference")
step, seen = job.step(function, 1)
masks, taken = seen[:1], sides(job.net, seen[1:])
alone = OnSides(job)
found = errors(alone.step(1, taken, masks), step)
print(found.loss, found.overall, found.largest)
other = sides(job.net, seen[1:])
other.positive[0][...] = ~other.positive[0]
assert other.differences(taken) == other.positive[0].size
print(errors(alone.step(1, other, masks), step).overall)
"""

FINAL = """
import sys
sys.path[:0] = [{folder!r}, {root!r}]
import cpu_accuracy, final_accuracy
cpu_accuracy.settle = lambda: None
final_accuracy.train = lambda seed, backend, *rest: 90.0 + 2 * seed + 0.25 * (backend == "cpu")
sys.argv = ["cpu_accuracy.py", "--seeds", "2", *sys.argv[1:]]
sys.exit(cpu_accuracy.main())
"""


PUBLISHED = """
import sys
sys.path[:0] = [{folder!r}, {root!r}]
import numpy as np
import flattened
from harness import relative_error
from peers import published_flattened
net, rng = flattened.network("flattened", 6), np.random.default_rng(1)
state = {{name: one.value for name, one in net.named_parameters()}}
given = [rng.standard_normal((2, 6, 9, 7), dtype=np.float32) for _ in range(2)]
for mode in flattened.MODES:
    ours = flattened.contestant(net, *given, mode, "fp32", "reference").result()
    (published,) = published_flattened.contestants(state, *given, mode)
    print(relative_error(published.result(), ours))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_every_script_is_there() -> None:
    assert {path.stem for path in FOLDER.glob("cpu_*.py")} == {f"cpu_{name}" for name in CPU}


NEEDING_PEERS = [f"cpu_{name}" for name in CPU if name not in NO_PEERS_NEEDED]
RACES = [*NEEDING_PEERS, "flattened", "loading", "lowrank", "rapid_inr", "scan", "vit"]


@pytest.mark.parametrize("name", RACES)
def test_without_peers_a_script_says_what_is_missing(name: str) -> None:
    code = WITHOUT_PEERS.format(folder=str(FOLDER))
    done = run("-c", code, str(FOLDER / f"{name}.py"), "--quick")
    assert done.returncode == 2, done.stderr
    assert "races against torch, which this Python does not have" in done.stderr
    assert "benchmarks/peers/__init__.py says how" in done.stderr
    assert done.stdout == ""


def test_the_published_scheme_of_flattened_layers_computes_the_same() -> None:
    """Symgraph's reference against the scheme, written anew: forward, and every gradient."""
    done = run("-c", PUBLISHED.format(folder=str(FOLDER), root=str(FOLDER.parent)))
    assert done.returncode == 0, done.stderr
    errors = [float(line) for line in done.stdout.split()]
    assert len(errors) == 2
    assert max(errors) < 1e-4


def test_what_scripts_share_imports_no_peer() -> None:
    root = str(FOLDER.parent)
    code = f"import sys; sys.path[:0] = [{str(FOLDER)!r}, {root!r}]\n"
    code += "".join(f"import {name}\n" for name in SHARED)
    code += "assert not {'torch', 'jax', 'pytensor'} & sys.modules.keys()\n"
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("cpu_alexnet", ("--precision", "fp8"), "fp8: must be among fp32, bf16"),
        ("cpu_alexnet", ("--case", "no-lrn,vgg"), "vgg: must be among with-lrn, no-lrn"),
        ("cpu_zoo", ("--peers", "pytensor"), "pytensor: must be among torch, jax"),
        ("cpu_resnet", ("--batch", "0"), "sizes are >= 1"),
        ("gpu_alexnet", ("--precision", "fp8"), "fp8: must be among fp32, tf32, bf16"),
        ("gpu_resnet", ("--settings", "lazy"), "lazy: must be among eager, eager-last"),
        ("cpu_accuracy", ("--steps", "0,-1"), "steps are >= 0"),
        ("cpu_accuracy", ("--seeds", "0"), "must be >= 1"),
        ("loading", ("--part", "wait,disk"), "disk: must be among wait, images"),
        ("data_parallel", ("--case", "steps"), "steps: must be among exchange, update, step"),
        ("data_parallel", ("--batch", "0"), "sizes are >= 1"),
    ],
)
def test_wrong_flags_are_refused(script: str, flags: tuple[str, ...], message: str) -> None:
    done = run(str(FOLDER / f"{script}.py"), *flags)
    assert done.returncode == 2
    assert message in done.stderr


def test_every_file_says_what_it_holds() -> None:
    for path in FOLDER.rglob("*.py"):
        text = path.read_text("utf-8")
        assert text.startswith('"""'), path
        assert len(text.splitlines()) <= 400, path


def test_the_environment_names_the_peers() -> None:
    path = FOLDER / "peers" / "__init__.py"
    spec = importlib.util.spec_from_file_location("peers_of_benchmarks", path)
    assert spec is not None
    assert spec.loader is not None
    peers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peers)
    for package in peers.PACKAGES:
        assert package in peers.__doc__
    assert not peers.installed("no_such_package")
    with pytest.raises(SystemExit, match="2"):
        peers.need("no_such_package")


def test_slow_peers_do_not_race() -> None:
    benchmark = Benchmark("short", rounds=1, warmup=0)
    ours = Contestant("ours", lambda: 1.0, own_clock=True, check=lambda: 0.0)
    fast = Contestant("fast", lambda: 2.0, own_clock=True, check=lambda: 0.0)
    times = iter([1.0, 9.0, 9.0, 9.0])
    slow = Contestant("slow", lambda: next(times), own_clock=True, check=lambda: 0.0)
    row = benchmark.compare("case", ours, [slow, fast], target=1.0, within=2.0)
    assert (row.versus, row.ratio) == ("fast", 2.0)
    assert "case: tried, and too slow to race: slow (9 s); best 2 s" in benchmark.notes
    assert benchmark.taken == {"case": [1.0]}


def test_what_is_checked_may_differ_from_what_is_timed() -> None:
    def fail() -> float:
        raise RuntimeError("not to be run")

    contestant = Contestant("one", fail, check=lambda: [1.0])
    assert contestant.result() == [1.0]
    assert repeated(contestant, 3).result() == [1.0]
    calls: list[int] = []
    many = repeated(Contestant("many", lambda: calls.append(1)), 4)
    assert 0 <= many.seconds() < 60
    assert len(calls) == 4


def test_errors_of_mappings_are_ratios_of_norms() -> None:
    reference = {"loss": 2.0, "w": [3.0, 4.0]}
    assert relative_error({"loss": 2.0, "w": [3.0, 4.5]}, reference) == pytest.approx(0.1)
    assert relative_error({"loss": 3.0, "w": [3.0, 4.0]}, reference) == pytest.approx(0.5)
    with pytest.raises(ArithmeticError, match="not the entries loss, w"):
        relative_error({"loss": 2.0}, reference)


def test_what_is_left_out_fails_a_strict_run(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = Benchmark("strict", strict=True)
    benchmark.leave_out("row", "no such thing")
    assert benchmark.finish() == 1
    assert "left out: row: no such thing" in capsys.readouterr().out


def test_on_its_own_sides_of_kinks_a_step_is_what_it_was(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    paths = {"folder": str(FOLDER), "root": str(FOLDER.parent), "states": str(tmp_path)}
    done = run("-c", ON_SIDES.format(**paths))
    assert done.returncode == 0, done.stderr
    same, other = done.stdout.splitlines()
    assert max(map(float, same.split())) < 1e-12
    assert float(other) > 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["narrow-digits-seed1-batch2-step1.npz"]


def test_final_accuracies_are_compared_with_those_of_a_file(tmp_path: Path) -> None:
    code = FINAL.format(folder=str(FOLDER), root=str(FOLDER.parent))
    file = str(tmp_path / "accuracies.json")
    kept = run("-c", code, "--backend", "reference", "--save", file)
    assert kept.returncode == 0, kept.stderr
    assert "left out: final accuracy over 2 seeds: no accuracies of the reference" in kept.stdout
    done = run("-c", code, "--against", file)
    assert done.returncode == 0, done.stderr
    assert "note: seed 1: cpu 92.2 %, reference 92.0 %" in done.stdout
    (row,) = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert row["case"] == "final accuracy over 2 seeds, from reference's 91.00 %"
    assert (row["ours"], row["peer"], row["ratio"]) == (0.25, 1.0, 4.0)
    wrong = run("-c", code, "--against", file, "--max-steps", "3")
    assert "made with other settings" in wrong.stderr
