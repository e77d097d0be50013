"""Training where images travel to a device as bytes, on a device that is this CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models.common.classifier import evaluate, loading
from models.common.trainer import Training
from symgraph.parallel import Alone
from tests.backends.host_device import HostDevice
from tests.models.tiny import CROP, MODEL, make_parser

pytestmark = pytest.mark.timeout(300)

# Where a name of the library's way to a device stands, and what it is called there.
OPENERS = {
    "symgraph.function": "device",
    "symgraph.parallel.step": "device",
    "symgraph.data.loader": "opened",
}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """A device that is this CPU, on which runs and evaluations take place."""
    made = HostDevice(tmp_path, "cuda:0")
    for module, name in OPENERS.items():
        monkeypatch.setattr(sys.modules[module], name, lambda number: made)
    return made


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, backend: str | None, *more: str) -> Any:
    """Train the tiny model; give its run, and what its metrics say."""
    for module in ("models.common.loop", "models.common.classifier"):
        monkeypatch.setattr(sys.modules[module], "backend_of", lambda *given: backend)
    words = ["train", "--out", str(folder), "--quiet", "--epochs", "1", "--seed", "4", *more]
    chosen = make_parser().parse_args([*words, "--batch", "200", "--max-steps", "5"])
    training = Training(MODEL, chosen, Alone())
    assert training.run() == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return training, lines, chosen


@pytest.mark.parametrize("loading", ["process", "thread"])
def test_a_run_is_that_of_the_host(
    host: HostDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loading: str
) -> None:
    options = ("--loading", loading)
    ours, found, _ = run(tmp_path / "there", monkeypatch, "cuda", *options)
    theirs, expected, _ = run(tmp_path / "here", monkeypatch, None, *options)
    assert [one["step"] for one in found] == [one["step"] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-5)
        assert one.get("accuracy") == other.get("accuracy")
    for one, other in zip(ours.net.parameters(), theirs.net.parameters(), strict=True):
        np.testing.assert_allclose(one.value, other.value, rtol=1e-3, atol=2e-6)
    feeders = host.feeders
    assert len(feeders) == 2  # that of training, and that of validation
    for feeder in feeders:
        images = [sent.made[0][0] for sent in feeder.sent]
        assert all(one.dtype == np.uint8 for one in images)
        assert all(one.shape[1:] == (3, MODEL.size, MODEL.size) for one in images)
        assert MODEL.size > CROP
        assert not feeder.pinned  # any more


def test_an_evaluation_cuts_there_too(
    host: HostDevice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training, _, _ = run(tmp_path / "run", monkeypatch, None)
    capsys.readouterr()
    chosen = make_parser().parse_args(["evaluate", "--checkpoint", str(training.path)])
    assert evaluate(MODEL, chosen) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(
        sys.modules["models.common.classifier"], "backend_of", lambda *given: "cuda"
    )
    assert evaluate(MODEL, chosen) == 0
    assert capsys.readouterr().out == expected
    assert host.feeders


def test_a_device_of_the_settings_is_one_too() -> None:
    assert loading(None) == loading("cpu") == {}
    assert loading("cuda:1") == {"cropped": False, "device": "cuda:1"}
    with sg.config(backend="cuda"):
        assert loading(None) == {"cropped": False, "device": "cuda"}
