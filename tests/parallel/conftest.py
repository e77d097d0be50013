"""The tiny data set of the models' tests, and what several files open and have to close."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.models.conftest import tiny_data

__all__ = ["opened", "tiny_data"]


@pytest.fixture
def opened() -> Iterator[list[Any]]:
    """Close what a test puts into it."""
    found: list[Any] = []
    yield found
    for one in found:
        one.close()
