"""The digits job of models/alexnet.py trained to its end, for several seeds."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from harness import Benchmark

import symgraph as sg
from models import alexnet

POINT = 1.0  # by which the mean over the seeds may differ from the reference's
QUICK_STEPS = 2


def train(seed: int, backend: str, max_steps: int | None, batch: int) -> float:
    """Run the command line with a seed; give the final validation accuracy in percent."""
    with tempfile.TemporaryDirectory(prefix="symgraph-accuracy-") as folder:
        words = ["--seed", str(seed), "--batch", str(batch), "--out", folder, "--quiet"]
        if max_steps is not None:
            words += ["--max-steps", str(max_steps)]
        with sg.config(backend=backend):
            status = alexnet.main(words)
        if status:
            raise SystemExit(status)
        lines = (Path(folder) / "metrics.jsonl").read_text("utf-8").splitlines()
        found = [record["accuracy"] for record in map(json.loads, lines) if "accuracy" in record]
        return 100 * float(found[-1])


def final_accuracy(benchmark: Benchmark) -> None:
    """Train with the seeds 0 .. N-1, say how good each became, and compare with a file."""
    chosen = benchmark.chosen
    max_steps = QUICK_STEPS if benchmark.quick else chosen.max_steps
    found = {
        str(seed): train(seed, chosen.backend, max_steps, chosen.batch)
        for seed in range(chosen.seeds)
    }
    settings = {"batch": chosen.batch, "max_steps": max_steps}
    if chosen.save is not None:
        report = {"backend": chosen.backend, **settings, "accuracy": found}
        chosen.save.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    case, mean = f"final accuracy over {len(found)} seeds", statistics.mean(found.values())
    known: dict[str, float] = {}
    if chosen.against is not None:
        report = json.loads(chosen.against.read_text("utf-8"))
        if any(report.get(name) != value for name, value in settings.items()):
            raise SystemExit(f"{chosen.against}: made with other settings than {settings}")
        known = report["accuracy"]
    for seed, accuracy in found.items():
        beside = f", {report['backend']} {known[seed]:.1f} %" if seed in known else ""
        benchmark.notes.append(f"seed {seed}: {chosen.backend} {accuracy:.1f} %{beside}")
    benchmark.notes.append(f"{case}: {chosen.backend} {mean:.2f} % in the mean")
    if found.keys() <= known.keys():
        other = statistics.mean(known[seed] for seed in found)
        distance = max(abs(mean - other), 1e-9)
        benchmark.limit(f"{case}, from {report['backend']}'s {other:.2f} %", [distance], POINT, "%")
    else:
        benchmark.leave_out(case, "no accuracies of the reference: give --against FILE")
