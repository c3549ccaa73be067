"""A run that is stopped, killed or damaged on the way ends with the weights of one that was left alone."""

import json
import math
import os
import re
import signal

import pytest
import torch

from helpers.ranks import ends, running, start_ranks
from helpers.trainings import STEPS, alone, assert_same, blobs, config
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.dependence import joint
from hpcauxvae.dependence.past import Constraint
from hpcauxvae.runtime.agreed_requests import AGREE_EVERY
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO
from hpcauxvae.train import checkpoint
from hpcauxvae.train.run import load_run
from hpcauxvae.train.tracking import history
from hpcauxvae.train.trainer import Diverged, Trainer
from hpcauxvae.types import InputError


@pytest.mark.parametrize(
    "stops", [[(signal.SIGTERM, 1), (signal.SIGUSR1, 10)], [(signal.SIGINT, 7)], [(signal.SIGTERM, 21)]]
)
def test_a_signal_stops_after_the_step_and_the_run_goes_on_from_the_next(data, whole, tmp_path, signal_after, stops):
    run = tmp_path / "run"
    for number, step in stops:
        signal_after(number, step)
        assert alone(config(data, run, epochs=3, resume="auto")) == MORE_TO_DO
        state = checkpoint.read(run / checkpoint.LAST)[1]
        assert (state["step"], state["epoch"] * STEPS + state["epoch_step"]) == (step, step)
        assert json.loads((run / "status.json").read_text()) == {
            "exit_code": 75, "reason": number.name, "step": step, "steps": 21
        }  # fmt: skip
    signal_after(signal.SIGTERM, -1)
    assert alone(config(data, run, epochs=3, resume="auto")) == FINISHED
    assert_same(whole, run)
    assert json.loads((run / "status.json").read_text())["exit_code"] == 0
    assert alone(config(data, run, epochs=3, resume="auto")) == FINISHED, "nothing is left to do"
    assert_same(whole, run)


def test_weights_in_another_order_in_memory_go_on_as_well(data, tmp_path, signal_after):
    """Adam's moments must lie as the weights do: its fused step looks at memory alone."""
    runs = [config(data, tmp_path / name, epochs=2, resume="auto", channels_last=True) for name in ("whole", "run")]
    assert alone(runs[0]) == FINISHED
    signal_after(signal.SIGTERM, 5)
    assert alone(runs[1]) == MORE_TO_DO
    assert alone(runs[1]) == FINISHED
    assert_same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("step", [3, 9])
def test_slopes_from_the_past_and_the_weight_of_independence_go_on_where_they_were(
    data, tmp_path, signal_after, step, monkeypatch
):
    """Before the guide is half in place, and behind it; random features are renewed on the way."""
    monkeypatch.setattr(joint, "LIFE", 8)
    fields = {"epochs": 2, "resume": "auto", "dependence_tolerance": 0.02, "channels_last": step == 9}
    runs = [config(data, tmp_path / name, **fields) for name in ("whole", "run")]
    assert alone(runs[0]) == FINISHED
    signal_after(signal.SIGTERM, step)
    assert alone(runs[1]) == MORE_TO_DO
    state = checkpoint.read(tmp_path / "run" / checkpoint.LAST)[0]["model.independence.constraint.state"]
    assert (state[0].item() == math.log(Constraint.HIGHEST)) == (step == 3)
    assert alone(runs[1]) == FINISHED
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_a_kill_between_a_checkpoint_and_the_names_that_point_to_it(data, tmp_path):
    """`last` and `best` are set again by the next start, also where nothing is left to train."""
    run, fields = tmp_path / "run", {"keep_last": 9, "lambda2": 1000}
    assert alone(config(data, run, **fields)) == FINISHED
    assert checkpoint.read(run / checkpoint.BEST)[1]["step"] == 14
    checkpoint.Checkpoints(run, 9, lambda step: False).point(7, {"step": 7, "loss": 0.0})
    assert load_run(run).state["epoch"] == 1
    assert alone(config(data, run, **fields, resume="auto")) == FINISHED
    for name in (checkpoint.LAST, checkpoint.BEST):
        assert checkpoint.read(run / name)[1]["step"] == 14


def test_a_signal_has_its_old_meaning_after_the_run(data, tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert alone(config(data, tmp_path / "run", max_minutes=0)) == MORE_TO_DO
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert (
        "stopped (time limit, which passed before the first step of this start) after step 0" in capsys.readouterr().out
    )


def test_checkpoints_within_an_epoch_change_nothing(data, whole, tmp_path):
    run = tmp_path / "run"
    assert alone(config(data, run, epochs=3, checkpoint_minutes=0, keep_last=100)) == FINISHED
    assert checkpoint.Checkpoints(run, 1, lambda step: False).steps() == list(range(21, 0, -1))
    assert_same(whole, run)
    # The machine dies after the 12th step, and its last checkpoint is cut short.
    for step in range(13, 22):
        (run / "checkpoints" / f"step-{step:09d}.safetensors").unlink()
    torn = run / "checkpoints" / "step-000000012.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1000])
    assert alone(config(data, run, epochs=3, resume="auto")) == FINISHED
    assert_same(whole, run)


def test_another_run_or_other_data_are_refused(data, whole, tmp_path):
    with pytest.raises(InputError, match=r"config seed = 0, now 1; allowed: the same"):
        alone(config(data, whole, epochs=3, seed=1, resume="auto"))
    other = blobs(tmp_path / "other.h5", seed=1)
    with pytest.raises(InputError, match=r"other\.h5: is not the data set that .*step-000000021.* was trained on"):
        alone(config(other, whole, epochs=3, resume="auto"))
    with pytest.raises(InputError, match="choose another folder, or --resume auto"):
        alone(config(data, whole, epochs=3))


def test_a_restart_that_is_refused_leaves_word_of_the_last(data, tmp_path):
    run = tmp_path / "run"
    assert alone(config(data, run, epochs=1)) == FINISHED
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert json.loads(before["status.json"])["exit_code"] == FINISHED
    with pytest.raises(InputError, match="config lambda1 = None, now 5"):
        alone(config(data, run, epochs=1, lambda1=5, resume="auto"))
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_line_that_a_kill_cut_short_is_left_out(data, whole, tmp_path):
    """The kill comes while the row of the third epoch is written; its checkpoint was not."""
    run = tmp_path / "run"
    assert alone(config(data, run, epochs=3, keep_last=9)) == FINISHED
    (run / "checkpoints" / "step-000000021.safetensors").unlink()
    os.truncate(run / "metrics.jsonl", (run / "metrics.jsonl").stat().st_size - 40)
    assert alone(config(data, run, epochs=3, resume="auto")) == FINISHED
    assert_same(whole, run)
    (run / "metrics.jsonl").unlink()
    assert alone(config(data, run, epochs=3, resume="auto")) == FINISHED
    assert history(run) == []


@pytest.mark.processes
def test_a_folder_that_cannot_be_written_ends_all_ranks(data, tmp_path):
    """A folder in the place of a file stands for the disk; rank 0 alone writes."""
    run = tmp_path / "run"
    (run / "config.json").mkdir(parents=True)
    arguments = ["--aux", "radius", "--batch-size", 16, "--epochs", 1, "--device", "cpu", "--resume", "auto"]
    codes, errors = ends(start_ranks(2, data, *arguments, "--out", run))
    assert codes == [2, 2], errors
    assert errors[0].endswith(f"error: {run / 'config.json'}: cannot be written: Is a directory\n") and errors[1] == ""


@pytest.mark.parametrize("fields", [{}, {"lambda2": 1000}])
def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_samples(data, tmp_path, fields):
    settings = config(data, tmp_path / "run", **fields)
    trainer = Trainer(settings, start(find_world({}), "cpu"), open_set(data))
    trainer.connect()
    batches = list(trainer.batches())
    trainer.train_step(*batches[0])
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    bad = int(batches[1][0].index[3])
    trainer.samples.images[bad, 0, 5, 5] = torch.inf
    for batch, noise in list(trainer.batches())[:2]:
        trainer.train_step(batch, noise)
    with pytest.raises(Diverged, match=rf"epoch 1, step 2: .*samples whose own loss is not finite: \[{bad}\]"):
        trainer.check()
    for name, tensor in trainer.model.state_dict().items():
        if not name.startswith("independence."):  # of batches seen
            assert torch.equal(tensor, before[name]), name


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.smoke
def test_two_ranks_stopped_and_killed_end_as_two_that_were_left_alone(data, tmp_path):
    arguments = [data, "--aux", "radius,g1", "--batch-size", 16, "--epochs", 20, "--resume", "auto"]
    arguments += ["--checkpoint-minutes", 0.01, "--device", "cpu", "--out"]
    codes, errors = ends(start_ranks(2, *arguments, tmp_path / "whole"))
    assert codes == [FINISHED, FINISHED], errors

    run = tmp_path / "run"
    ranks = start_ranks(2, *arguments, run)
    running(ranks, (run / checkpoint.LAST).exists)
    ranks[1].send_signal(signal.SIGTERM)  # not the one that writes
    codes, errors = ends(ranks)
    assert codes == [MORE_TO_DO, MORE_TO_DO], errors
    step = checkpoint.read(run / checkpoint.LAST)[1]["step"]
    assert step < 20 * STEPS
    assert step % AGREE_EVERY == 0 or step % STEPS == 0

    ranks = start_ranks(2, *arguments, run)
    running(ranks, lambda: checkpoint.read(run / checkpoint.LAST)[1]["step"] > step)
    ranks[0].send_signal(signal.SIGKILL)
    codes, errors = ends(ranks)
    assert codes == [-signal.SIGKILL, 1], errors
    assert "rank 0 is gone" in errors[1]

    codes, errors = ends(start_ranks(2, *arguments, run))
    assert codes == [FINISHED, FINISHED], errors
    assert_same(tmp_path / "whole", run)


LATE = """
import time
from datetime import timedelta
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.agreed_requests import Requests
from hpcauxvae.runtime.launchers import find_world
processes = start(find_world(), "cpu", timedelta(seconds=5))
requests = Requests(processes, None, None)
if processes.world.rank == 1:
    time.sleep(60)
requests.agreed_now()
"""


@pytest.mark.slow
@pytest.mark.processes
def test_ranks_wait_for_each_other_s_requests_as_long_as_for_all_else(data):
    """In a group of its own, for which torch has 30 minutes otherwise."""
    ranks = start_ranks(2, program=("-c", LATE))
    codes, errors = ends(ranks[:1], timeout=50)
    ranks[1].kill()
    ranks[1].communicate()
    assert codes != [0] and "5000ms" in errors[0]


SLOW = """
import time
from hpcauxvae.train import command as train
from hpcauxvae.cli import run
from hpcauxvae.data import hdf5
real = hdf5.pixel_errors
def slowly(images, samples, weights, missing, mark):
    for start in samples[::16]:
        yield from real(images, range(start, min(start + 16, samples.stop)), weights, missing, mark)
        time.sleep(2)
hdf5.pixel_errors = slowly
run(train.main)
"""


@pytest.mark.slow
@pytest.mark.processes
def test_ranks_that_are_still_reading_are_not_taken_for_hanging(data, tmp_path):
    ranks = start_ranks(
        2, data, "--aux", "radius", "--batch-size", 16, "--epochs", 1, "--device", "cpu", "--out", tmp_path / "run",
        "--timeout-minutes", 0.12, program=("-c", SLOW),
    )  # fmt: skip
    codes, errors = ends(ranks)
    assert codes == [FINISHED, FINISHED], errors


@pytest.mark.processes
def test_a_rank_without_samples_accumulates_with_the_others(data, tmp_path):
    ranks = start_ranks(
        3, data, "--aux", "radius", "--batch-size", 2, "--accumulate", 2, "--epochs", 1, "--network", "mlp",
        "--timeout-minutes", 1, "--out", tmp_path / "run",
    )  # fmt: skip
    codes, errors = ends(ranks)
    assert codes == [0, 0, 0], errors


@pytest.mark.processes
def test_bad_input_is_said_once_whatever_the_number_of_ranks(data, tmp_path):
    for arguments, message in (
        (["--aux", "radius,size"], "factor 'size' is unknown"),
        (["--epochs", "some"], "epochs"),
        (["--aux", "radius", "--out", data], f"{data}: cannot be the folder of a run"),
    ):
        codes, errors = ends(start_ranks(2, data, "--out", tmp_path / "run", "--device", "cpu", *arguments))
        assert codes == [2, 2], errors
        assert message in errors[0]
        assert errors[1] == ""


@pytest.mark.slow
@pytest.mark.processes
def test_a_rank_that_is_stopped_ends_the_others_in_time_and_is_named(data, tmp_path):
    run = tmp_path / "run"
    ranks = start_ranks(
        2, data, "--aux", "radius,g1", "--batch-size", 16, "--epochs", 10_000, "--device", "cpu", "--out", run,
        "--timeout-minutes", 0.12,
    )  # fmt: skip
    running(ranks, (run / checkpoint.LAST).exists)
    ranks[1].send_signal(signal.SIGSTOP)
    codes, errors = ends(ranks[:1])
    ranks[1].kill()
    ranks[1].wait()
    assert codes == [1], errors
    silence = re.search(r"rank 1 died, was stopped or is cut off: no sign of it for ([\d.]+) s", errors[0])
    assert silence and float(silence[1]) > 7, errors[0]
    assert not (run / "lock").exists()
