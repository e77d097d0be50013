"""What the tests of the trainer share: command lines, metrics, comparing two runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from models.common.classifier import Classifier
from symgraph.io import load_checkpoint
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
    found, expected = load_checkpoint(folder), load_checkpoint(reference)
    assert found.meta == expected.meta
    assert found.meta["step"] == steps
    assert found.tensors.keys() == expected.tensors.keys()
    for name, array in expected.tensors.items():
        assert array.tobytes() == found.tensors[name].tobytes(), name
    assert not list(folder.glob(".*"))


def other(**changes: Any) -> Classifier:
    """Give the tiny model with something else about it."""
    fields = {name: getattr(MODEL, name) for name in MODEL.__dataclass_fields__}
    return Classifier(**{**fields, **changes})
