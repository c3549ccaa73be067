"""`--notify`: one call on rank 0, whichever way a training ends, and never one that changes its end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.forked import Forked
from helpers.ranks import ends, running, start_ranks
from helpers.trainings import alone, config
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.data.splits import parts
from hpcauxvae.runtime.stop_requests import FAILED, FINISHED, MORE_TO_DO
from hpcauxvae.train import notice
from hpcauxvae.train.command import main
from hpcauxvae.train.notice import Notice

TELL = 'printf "%s|%s|%s\\n" "$HPCAUXVAE_EVENT" "$HPCAUXVAE_RUN" "$HPCAUXVAE_MESSAGE" >> '


def words(data: Path, run: Path, notify: str, **fields: object) -> list[str]:
    return config(data, run, network="mlp", notify=notify, **fields).arguments()


def started(data: Path, run: Path, notify: str, **fields: object) -> Forked:
    """A training of many epochs that has done one."""
    ranks = [Forked(("-m", "hpcauxvae.train"), *words(data, run, notify, epochs=10_000, **fields), env=os.environ)]
    log = run / "metrics.jsonl"
    running(ranks, lambda: log.exists() and log.read_text().count("\n") > 0)
    return ranks[0]


@pytest.mark.slow
@pytest.mark.processes
def test_torchrun_tells_once_that_a_run_has_finished_and_nothing_of_its_ranks(blobs_file, tmp_path):
    said, run = tmp_path / "said", tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    tell = f'{TELL} {said}; echo "rank ${{RANK-none}} of ${{WORLD_SIZE-none}}" >> {said}'
    done = subprocess.run(
        [*launch, "-m", "hpcauxvae.train", *words(blobs_file, run, tell)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    first, second = said.read_text().splitlines()
    assert first.startswith(f"finished|{run}|2 epochs; best validation loss ") and first.endswith(", of epoch 2")
    assert second == "rank none of none"


@pytest.mark.processes
def test_a_data_file_that_goes_bad_half_way_is_told_and_leaves_word(blobs_file, tmp_path):
    data, said, run = tmp_path / "own.h5", tmp_path / "said", tmp_path / "run"
    data.write_bytes(blobs_file.read_bytes())
    training = started(data, run, TELL + str(said), in_memory="no")
    for row in parts(open_set(blobs_file), 0)[0]:  # those of validation would be bad input
        with h5py.File(data, "r+", locking=False) as file:
            file["images"][row] = np.inf
    codes, errors = ends([training])
    assert codes == [FAILED], errors
    (line,) = said.read_text().splitlines()
    assert line.startswith(f"failed|{run}|epoch ") and "loss or gradient not finite" in line
    assert '"exit_code": 1' in (run / "status.json").read_text() and "not finite" in (run / "status.json").read_text()


@pytest.mark.processes
@pytest.mark.smoke
def test_a_stop_is_told_behind_the_checkpoint_and_a_second_signal_changes_nothing(blobs_file, tmp_path):
    said, run = tmp_path / "said", tmp_path / "run"
    tell = f'test -e "$HPCAUXVAE_RUN/status.json" && {TELL} {said} && sleep 1.5 && echo slept >> {said}'
    training = started(blobs_file, run, tell)
    training.send_signal(signal.SIGTERM)
    running([training], said.exists)
    training.send_signal(signal.SIGTERM)
    codes, errors = ends([training])
    assert codes == [MORE_TO_DO], errors
    line, slept = said.read_text().splitlines()
    assert line.startswith(f"stopped|{run}|stopped (SIGTERM) after step ") and slept == "slept"


@pytest.mark.processes
def test_rank_0_alone_tells_that_another_was_killed(blobs_file, tmp_path):
    said, run = tmp_path / "said", tmp_path / "run"
    ranks = start_ranks(2, *words(blobs_file, run, TELL + str(said), epochs=10_000, timeout_minutes=0.2))
    running(ranks, (run / "last.safetensors").exists)
    ranks[1].kill()
    codes, errors = ends(ranks)
    assert codes == [FAILED, -signal.SIGKILL], errors
    (line,) = said.read_text().splitlines()
    assert line.startswith(f"failed|{run}|rank 1 died, was stopped or is cut off")


def test_bad_input_is_told_too_for_a_job_has_nobody_who_reads(tmp_path, monkeypatch):
    said = tmp_path / "said"
    missing = tmp_path / "no.h5"
    with pytest.raises(Exception, match=r"no\.h5: no such file"):
        main(words(missing, tmp_path / "run", TELL + str(said)))
    assert said.read_text() == f"failed|{tmp_path / 'run'}|{missing}: no such file\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("sleep 60", "has not ended within 0.3 s, and is killed"),
        ("sleep 60 & wait", "has not ended within 0.3 s, and is killed"),
        ("exit 3", "ended with exit code 3"),
        ("no-such-program 2>/dev/null", "ended with exit code 127"),
    ],
)
def test_a_command_that_hangs_or_fails_is_a_warning(command, fault, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notice, "SECONDS", 0.3)
    began = time.monotonic()
    with Notice(command, tmp_path) as told:
        assert told.ended(FINISHED) == FINISHED
    assert time.monotonic() - began < 8
    assert capsys.readouterr().err == f"warning: notify = {command}: {fault}\n"


def test_of_two_endings_the_first_is_told(tmp_path, capsys):
    """As where the watchdog says that a rank died, and the rank that waited for it then fails."""
    with pytest.raises(RuntimeError), Notice(f'echo "$HPCAUXVAE_MESSAGE" >> {tmp_path}/told', tmp_path) as notice:
        notice.failed("rank 1 died")
        raise RuntimeError("connection lost")
    assert (tmp_path / "told").read_text() == "rank 1 died\n" and capsys.readouterr().err == ""


def test_what_is_told_has_no_control_characters_and_needs_no_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    told = Notice(f'echo "$HPCAUXVAE_RUN|$HPCAUXVAE_MESSAGE" > {tmp_path}/told', Path("run"))
    (tmp_path / "gone").rmdir()
    told.failed("CUDA error\x00\n  compile with\tmore")
    capsys.readouterr()
    assert not (tmp_path / "told").exists() or "\x00" not in (tmp_path / "told").read_text()
    monkeypatch.chdir(tmp_path)
    with Notice(f'echo "$HPCAUXVAE_MESSAGE" > {tmp_path}/said', tmp_path) as told:
        told.failed("CUDA error\x00\n  compile with\tmore")
    assert (tmp_path / "said").read_text() == "CUDA error compile with more\n"


def test_the_command_is_written_nowhere(blobs_file, tmp_path, monkeypatch):
    """It may hold a secret address."""
    monkeypatch.setattr("sys.argv", ["hpcauxvae", "train", "x", "--notify", "curl SECRET"])
    alone(config(blobs_file, tmp_path / "run", network="mlp", epochs=1, notify="true SECRET"))
    for path in (path for path in (tmp_path / "run").rglob("*") if path.is_file()):
        assert b"SECRET" not in path.read_bytes(), path
