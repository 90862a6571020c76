"""A cluster of this machine alone for the tests of this folder, which are skipped where SLURM is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import PACKAGES, Cluster, missing


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of eight processors and two GPUs, all of them pretended."""
    if missing():
        pytest.skip(f"no SLURM here ({', '.join(missing())} not found): {PACKAGES}")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"), nodes=2)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a user would stand: jobs write their logs and runs here."""
    path = tmp_path / "project"
    path.mkdir()
    return path
