from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.survival import whole_run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a run that nothing cut."""
    return whole_run(tmp_path_factory)
