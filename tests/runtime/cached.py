"""What the tests of the cache share: a key, the files, and what was logged."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from symgraph.runtime.cache import key

KEY = key("one")


def entry(folder: Path, name: str = KEY) -> Path:
    return folder / f"{name}.code"


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.name for record in caplog.records} <= {"symgraph"}
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    return [record.getMessage() for record in caplog.records]
