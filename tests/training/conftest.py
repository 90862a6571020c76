from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.survival import run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a run that nothing cut."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder / "cache"))
        run(folder / "run")
    return folder / "run"
