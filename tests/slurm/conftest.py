"""The cluster that the tests of this folder share, and small data on it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.slurm_cluster import Cluster, missing
from helpers.slurm_desk import Desk


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes of four CPUs and four GPUs, of which nothing exists but the processes."""
    if absent := missing():
        pytest.skip(
            f"no Slurm here: {', '.join(absent)} not found (Debian: slurmctld slurmd slurm-client munge libpmix2)"
        )
    with tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp") as folder:
        started = Cluster(Path(folder) / "c")
        yield started
        started.stop()


@pytest.fixture
def desk(cluster: Cluster, tmp_path: Path) -> Desk:
    """An empty folder of a user."""
    return Desk(tmp_path, cluster)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder, and none beside, need the cluster."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.cluster)
