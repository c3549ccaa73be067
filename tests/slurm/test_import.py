"""The job of docs/data-format.md on a real Slurm, as it stands there."""

import subprocess

import numpy as np
import pytest

from helpers.foreign import IDS, RADIUS, counts, write_csv, write_stamps
from helpers.places import ROOT
from helpers.slurm_desk import Desk
from hpcauxvae.data.hdf5 import open_set

pytestmark = pytest.mark.timeout(600)


def test_import_on_two_nodes(desk: Desk) -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'hpcauxvae[simulate]'")
    page = (ROOT / "docs" / "data-format.md").read_text()
    (desk.folder / "import.sh").write_text("#!/bin/bash" + page.split("```bash\n#!/bin/bash")[1].split("```")[0])
    files = [f"stamps/{name}" for name in write_stamps(desk.folder / "stamps", counts())]
    write_csv(desk.folder / "catalogue.csv", id=IDS, file=files, radius=RADIUS)
    options = ["--parsable", "--ntasks-per-node=2", "--output=import.log"]
    line = ["sbatch", *options, "import.sh"]
    done = subprocess.run(line, cwd=desk.folder, env=desk.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    state, log = desk.cluster.wait(done.stdout.strip()), (desk.folder / "import.log").read_text()
    assert state == "COMPLETED" and log.count("12 images read in") == 1, log
    np.testing.assert_array_equal(np.asarray(open_set(desk.folder / "mine.h5").images), counts())
