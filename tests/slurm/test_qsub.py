"""The PBS scripts through Debian's qsub, which makes an sbatch command of their directives."""

import re
import shutil
from pathlib import Path

import pytest

from helpers.places import ROOT
from helpers.slurm_cluster import Cluster
from hpcauxvae.cluster.submit import read_site

PBS = sorted((ROOT / "jobs").glob("*.pbs"))


@pytest.mark.skipif(shutil.which("qsub") is None, reason="no qsub here (Debian: slurm-wlm-torque)")
@pytest.mark.smoke
@pytest.mark.parametrize("script", PBS, ids=lambda path: path.name)
def test_qsub_understands_directives_and_options_of_a_site(script: Path, cluster: Cluster) -> None:
    """It prints the command and takes its options from the command line only; -k and -j doe are not known to it."""
    site = read_site(script.parent, "polaris", {"ACCOUNT": "mine", "NODES": "2"})["SUBMIT_OPTIONS"]
    lines = [*re.findall(r"^#PBS (.*)$", script.read_text(), re.MULTILINE), site]
    words = " ".join(lines).split()
    pairs = [pair for pair in zip(words[::2], words[1::2], strict=True) if pair[0] not in ("-k", "-j")]
    resources = ",".join(value for option, value in pairs if option == "-l")
    rest = [word for pair in pairs if pair[0] != "-l" for word in pair]
    said = cluster.run("qsub", "--sbatchline", *rest, "-l", resources, str(script)).stdout
    assert " -t60 " in said and " --account=mine " in said and " --requeue " in said and " -p debug " in said
    assert re.search(r" -N2 ", said) and said.split()[-1] == str(script)
