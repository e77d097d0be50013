"""The tiny data set, as the tests of models have it."""

from tests.models.conftest import tiny_data

__all__ = ["tiny_data"]
