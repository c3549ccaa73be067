"""A user at the cluster of cluster.py."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from helpers.places import ROOT
from helpers.slurm_cluster import Cluster

SMALL = "--network mlp --batch-size 64"
"""A network that trains in seconds."""


@dataclass
class Desk:
    """Where a user sits: a folder from which jobs are submitted."""

    folder: Path
    cluster: Cluster
    first_on_path: Path = Path(sys.executable).parent

    def submit(self, script: str, *options: str, **settings: str) -> str:
        """`hpcauxvae submit` of a script as it is, for the site `local`; returns the job's number."""
        given = [f"{name}={value}" for name, value in settings.items()]
        command = [sys.executable, "-m", "hpcauxvae", "submit", str(ROOT / "jobs" / script), "--site", "local", *given]
        done = subprocess.run(
            [*command, "--", *options], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def env(self) -> dict[str, str]:
        """With this Python first on the PATH, and this repository's package."""
        path = f"{self.first_on_path}:{Path(sys.executable).parent}:{self.cluster.env['PATH']}"
        return {**os.environ, **self.cluster.env, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def log(self, name: str, job: str) -> str:
        """What a job has printed."""
        path = self.folder / f"hpcauxvae-{name}-{job}.log"
        return path.read_text() if path.exists() else ""

    def completed(self, name: str, job: str, seconds: float = 500) -> str:
        """The log of a job that must end well."""
        state = self.cluster.wait(job, seconds)
        log = self.log(name, job)
        assert state == "COMPLETED", f"job {job} {state}\n{log}"
        return log
