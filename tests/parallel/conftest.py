"""The tiny data set of the models' tests."""

from __future__ import annotations

from tests.models.conftest import tiny_data

__all__ = ["tiny_data"]
