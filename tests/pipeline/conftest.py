"""The tiny stock models of the model tests."""

from tests.models.conftest import stock  # noqa: F401  (fixture)
