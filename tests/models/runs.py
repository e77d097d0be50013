"""What the tests of the trainer share: command lines, metrics, comparing two runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.common.classifier import Classifier
from symgraph.errors import SymgraphError
from symgraph.io import load_checkpoint, save_checkpoint
from tests.models.tiny import MODEL, make_parser

STEPS = 16  # 30 images in batches of 8 are 4 steps an epoch, and there are 4 epochs


def parse(*arguments: Any) -> argparse.Namespace:
    return make_parser().parse_args([str(one) for one in arguments])


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the lines without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def assert_same_run(folder: Path, reference: Path, *, steps: int = STEPS) -> None:
    """Fail unless two runs have the same metrics, and last checkpoints with the same bits."""
    assert metrics(folder) == metrics(reference)
    assert_same_state(folder, reference, steps=steps)
    assert not list(folder.glob(".*"))


def assert_same_state(folder: Path, reference: Path, *, steps: int) -> None:
    """Fail unless two runs have last checkpoints with the same bits."""
    found, expected = load_checkpoint(folder), load_checkpoint(reference)
    assert found.meta == expected.meta
    assert found.meta["step"] == steps
    assert found.tensors.keys() == expected.tensors.keys()
    for name, array in expected.tensors.items():
        assert array.tobytes() == found.tensors[name].tobytes(), name


def check_whole_life(
    main: Callable[[list[str]], int],
    flags: Sequence[Any],
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Path:
    """Train, stop and go on, evaluate and predict; give the folder of the run that went on."""

    def call(*arguments: Any) -> int:
        return main([str(one) for one in arguments])

    whole, part = tmp_path / "whole", tmp_path / "part"
    given = ("--data", tiny_data, "--quiet", "--batch", 8, "--epochs", 2, *flags)
    assert call(*given, "--out", whole) == 0
    assert call(*given, "--out", part, "--max-steps", 3) == 0
    assert call("--resume", part, "--quiet") == 0
    assert_same_state(part, whole, steps=8)
    capsys.readouterr()
    assert call("evaluate", "--checkpoint", part) == 0
    accuracy = metrics(part)[-1]["accuracy"]
    assert f"validation accuracy {100 * accuracy:.1f} %" in capsys.readouterr().out
    picture = next((tiny_data.parent / "source").glob("*/0.png"))
    assert call("predict", picture, "--checkpoint", part, "--top", 3) == 0
    assert capsys.readouterr().out.count("%") == 3
    return part


def check_hostile(
    main: Callable[[list[str]], int], run: Path, tmp_path: Path, settings: Mapping[str, Any]
) -> None:
    """Fail unless a checkpoint with each of these settings is refused: name to (value, text)."""
    found = load_checkpoint(run)
    for name, (value, text) in settings.items():
        meta = {**found.meta, "settings": {**found.meta["settings"], name: value}}  # type: ignore[dict-item]
        path = save_checkpoint(tmp_path / name, found.tensors, meta)
        with pytest.raises(SymgraphError, match=text):
            main(["evaluate", "--checkpoint", str(path)])


def other(**changes: Any) -> Classifier:
    """Give the tiny model with something else about it."""
    fields = {name: getattr(MODEL, name) for name in MODEL.__dataclass_fields__}
    return Classifier(**{**fields, **changes})
