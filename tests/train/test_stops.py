"""A run that is stopped, killed or damaged on the way ends with the weights of one that was left alone."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.ranks import ends, running, start_ranks
from helpers.trainings import alone, blobs, config
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.runtime.agreed_requests import AGREE_EVERY
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO
from hpcauxvae.train import checkpoint
from hpcauxvae.train.run import load_run
from hpcauxvae.train.tracking import history
from hpcauxvae.train.trainer import Diverged, Trainer
from hpcauxvae.types import InputError

STEPS = 7  # of an epoch: 112 samples in batches of 16


@pytest.fixture
def data(blobs_file: Path) -> Path:
    return blobs_file


def tensors(run: Path) -> dict[str, np.ndarray]:
    """The last checkpoint's."""
    return {name: tensor.numpy() for name, tensor in checkpoint.read(run / checkpoint.LAST)[0].items()}


def assert_same(one: Path, other: Path) -> None:
    """Bit for bit, and the same rows but for the times."""
    expected, found = tensors(one), tensors(other)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    assert len(rows[0]) == len(rows[1])
    for row, other_row in zip(*rows, strict=True):
        for group in ("train", "validation"):
            assert other_row[group] == pytest.approx(row[group], rel=1e-12)
            assert list(other_row[group]) == list(row[group])
        assert (other_row["epoch"], other_row["learning_rate"]) == (row["epoch"], row["learning_rate"])


@pytest.fixture(scope="session")
def whole(once: Callable, blobs_file: Path) -> Path:
    """A run of three epochs, never disturbed."""

    def train(folder: Path) -> None:
        assert alone(config(blobs_file, folder / "run", epochs=3, resume="auto")) == FINISHED

    return once("three-epochs", train) / "run"


@pytest.fixture
def signal_after(monkeypatch: pytest.MonkeyPatch):
    """Sends this process a signal after a step of the run."""
    real = Trainer.train_step

    def arrange(number: signal.Signals, step: int) -> None:
        def train_step(trainer, *arguments):
            terms = real(trainer, *arguments)
            if trainer.step == step:
                os.kill(os.getpid(), number)
            return terms

        monkeypatch.setattr(Trainer, "train_step", train_step)

    return arrange


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


def test_a_kill_between_a_checkpoint_and_the_names_that_point_to_it(data, tmp_path):
    """`last` and `best` are set again by the next start, also where nothing is left to train."""
    run = tmp_path / "run"
    assert alone(config(data, run, keep_last=9)) == FINISHED
    assert checkpoint.read(run / checkpoint.BEST)[1]["step"] == 14
    checkpoint.Checkpoints(run, 9, lambda step: False).point(7, {"step": 7, "loss": 0.0})
    assert load_run(run).state["epoch"] == 1
    assert alone(config(data, run, keep_last=9, resume="auto")) == FINISHED
    for name in (checkpoint.LAST, checkpoint.BEST):
        assert checkpoint.read(run / name)[1]["step"] == 14


def test_a_signal_has_its_old_meaning_after_the_run(data, tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert alone(config(data, tmp_path / "run", max_minutes=0)) == MORE_TO_DO
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


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


@pytest.mark.parametrize(
    "damage", [b'{"epoch": 1\n', b"\0\0\0\0\n", b"\xff\xfe\n", b"7\n", b'{"step": 7}\n', b'{"epoch": null}\n']
)
def test_a_damaged_line_is_left_out_with_a_warning(tmp_path, capsys, damage):
    (tmp_path / "metrics.jsonl").write_bytes(damage + b'{"epoch": 2}\n' + damage[:-1])
    assert history(tmp_path) == [{"epoch": 2}]
    assert capsys.readouterr().err == f"warning: {tmp_path / 'metrics.jsonl'}: line 1 is damaged and left out\n"


def test_a_finished_epoch_is_saved_before_its_validation(data, whole, tmp_path, monkeypatch):
    """A validation that fails costs nothing but itself, at whatever epoch; the next start begins with it."""
    run, settings = tmp_path / "run", {"epochs": 3, "keep_last": 1, "resume": "auto"}
    real = Trainer.validate
    for epoch in (1, 2, 3):

        def validate(trainer, stop, epoch=epoch):
            if trainer.epoch + 1 == epoch:
                raise MemoryError
            return real(trainer, stop)

        monkeypatch.setattr(Trainer, "validate", validate)
        monkeypatch.setattr(Trainer, "train_step", TRAIN_STEP)
        for _ in range(2):  # the second finds no step that is left
            with pytest.raises(MemoryError):
                alone(config(data, run, **settings))
            state = checkpoint.read(run / checkpoint.LAST)[1]
            assert (state["epoch"], state["epoch_step"], state["step"]) == (epoch, 0, epoch * STEPS)
            assert len(history(run)) == epoch - 1
            assert load_run(run).state["epoch"] == epoch
            monkeypatch.setattr(Trainer, "train_step", no_step)
    monkeypatch.setattr(Trainer, "validate", real)
    assert alone(config(data, run, **settings)) == FINISHED
    assert_same(whole, run)
    assert best_of(run) == best_of(whole)


TRAIN_STEP = Trainer.train_step


def no_step(*arguments):
    raise AssertionError("a step was done again")


def best_of(run: Path) -> int:
    """The step of the best checkpoint, which is the one that metrics.jsonl says."""
    rows = history(run)
    best = min(rows, key=lambda row: row["validation"]["loss"])["step"]
    assert checkpoint.read(run / checkpoint.BEST)[1]["step"] == best
    return best


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_stop_amid_the_validation_is_exact(data, whole, tmp_path, monkeypatch, epoch):
    run, real = tmp_path / "run", Trainer.validate

    def validate(trainer, stop):
        if trainer.epoch + 1 == epoch:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(trainer, stop)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", validate)
        assert alone(config(data, run, epochs=3, resume="auto")) == MORE_TO_DO
    assert len(history(run)) == epoch - 1
    assert json.loads((run / "status.json").read_text())["step"] == epoch * STEPS
    assert alone(config(data, run, epochs=3, resume="auto")) == FINISHED
    assert_same(whole, run)
    assert best_of(run) == best_of(whole)


def test_a_best_that_is_kept_is_the_best_of_finite_ones(data, tmp_path, monkeypatch):
    """Whatever the first validation says; the checkpoints of others go."""
    run, losses, real = tmp_path / "run", [float("nan"), 3.0, 5.0, 4.0, float("nan")], Trainer.validate

    def validate(trainer, stop):
        scores, codes = real(trainer, stop)
        return scores | {"loss": losses[trainer.epoch]}, codes

    monkeypatch.setattr(Trainer, "validate", validate)
    assert alone(config(data, run, epochs=5, network="mlp")) == FINISHED
    assert checkpoint.read(run / checkpoint.BEST)[1]["step"] == 14
    assert checkpoint.Checkpoints(run, 1, lambda step: False).steps() == [35, 28, 14], "the last two and the best"


def test_a_finished_run_is_trained_longer(data, whole, tmp_path, capsys, signal_after):
    """A second cycle of the learning rate, the same whether it is stopped on the way or not."""
    rates = {}
    for name, step in (("longer", -1), ("stopped", 25)):
        run = Path(shutil.copytree(whole, tmp_path / name, symlinks=True))
        signal_after(signal.SIGTERM, step)
        code = alone(config(data, run, epochs=5, resume="auto"))
        said = capsys.readouterr().out
        assert "step-000000021.safetensors: 3 of 5 epochs are done (step 21 of 35)" in said
        assert "planned for 3 epochs, trained on to 5: the learning rate begins a new cycle there" in said
        if code == MORE_TO_DO:
            assert alone(config(data, run, epochs=5, resume="auto")) == FINISHED
            said = capsys.readouterr().out
            assert "3 of 5 epochs are done, and 4 of the 7 steps of the next (step 25 of 35)" in said
        rates[name] = [row["learning_rate"] for row in history(run)]
        assert alone(config(data, run, epochs=5, resume="auto")) == FINISHED
        assert "nothing is left to do, more --epochs train it longer" in capsys.readouterr().out
    assert_same(tmp_path / "longer", tmp_path / "stopped")
    one = torch.optim.Adam([torch.zeros(1)], 1.0)
    peak = config(data, run).scaled_learning_rate
    cycle = torch.optim.lr_scheduler.OneCycleLR(one, peak, total_steps=14)
    for _ in range(7):
        one.step()
        cycle.step()
    assert rates["longer"][2] < 0.02 * peak
    assert rates["longer"][3] == pytest.approx(cycle.get_last_lr()[0], rel=1e-6)
    assert load_run(run).state["cycles"] == [3, 5]


def test_a_run_that_was_stopped_is_trained_longer_too(data, whole, tmp_path, capsys, signal_after):
    """First to the end that was planned, as if nothing had been asked."""
    run = tmp_path / "run"
    signal_after(signal.SIGTERM, 10)
    assert alone(config(data, run, epochs=3)) == MORE_TO_DO
    assert alone(config(data, run, epochs=4, resume="auto")) == FINISHED
    assert "planned for 3 epochs, trained on to 4" in capsys.readouterr().out
    expected, rows = history(whole), history(run)
    assert [row["validation"] for row in rows[:3]] == [row["validation"] for row in expected]
    assert len(rows) == 4 and load_run(run).state["epoch"] == 4


def test_without_cycles_the_learning_rate_stays(data, tmp_path, capsys):
    run = tmp_path / "run"
    for epochs in (1, 2):
        assert alone(config(data, run, epochs=epochs, objective="paper", resume="auto", network="mlp")) == FINISHED
    said = capsys.readouterr().out
    assert f"nothing to resume in {run}: it begins with epoch 1" in said and "the learning rate stays as it is" in said
    assert len({row["learning_rate"] for row in history(run)}) == 1


@pytest.mark.parametrize("epochs", [1, 2])
def test_fewer_epochs_than_planned_are_refused(data, whole, epochs):
    with pytest.raises(InputError, match=rf"epochs = {epochs}, but .* has done 3 of 3 epochs.*allowed: 3, or more"):
        alone(config(data, whole, epochs=epochs, resume="auto"))


def test_a_cycle_that_is_shorter_than_its_warm_up_is_refused(data, tmp_path):
    run = tmp_path / "run"
    assert alone(config(data, run, epochs=3, warmup_epochs=1.5, network="mlp")) == FINISHED
    with pytest.raises(InputError, match=r"warmup_epochs = 1\.5 for a new cycle of 1 epochs; allowed: more epochs"):
        alone(config(data, run, epochs=4, warmup_epochs=1.5, network="mlp", resume="auto"))


@pytest.mark.processes
def test_a_folder_that_cannot_be_written_ends_all_ranks(data, tmp_path):
    """A folder in the place of a file stands for the disk; rank 0 alone writes."""
    run = tmp_path / "run"
    (run / "config.json").mkdir(parents=True)
    arguments = ["--aux", "radius", "--batch-size", 16, "--epochs", 1, "--device", "cpu", "--resume", "auto"]
    codes, errors = ends(start_ranks(2, data, *arguments, "--out", run))
    assert codes == [2, 2], errors
    assert errors[0].endswith(f"error: {run / 'config.json'}: cannot be written: Is a directory\n") and errors[1] == ""


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch):
    """Does something after a step of the run."""
    real = Trainer.train_step

    def arrange(step: int, action: Callable[[], object]) -> None:
        def train_step(trainer, *arguments):
            terms = real(trainer, *arguments)
            if trainer.step == step:
                action()
            return terms

        monkeypatch.setattr(Trainer, "train_step", train_step)

    return arrange


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard
def test_a_folder_that_vanished_is_made_again_and_what_is_trained_is_not_lost(data, tmp_path, capsys, at_step):
    run = tmp_path / "run"
    at_step(10, lambda: shutil.rmtree(run))
    assert alone(config(data, run, network="mlp")) == FINISHED
    assert f"warning: {run} was gone and is made again, without what it held\n" in capsys.readouterr().err
    assert load_run(run).state["epoch"] == 2 and [row["epoch"] for row in history(run)] == [2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard
def test_what_ends_a_run_is_said_where_the_lock_has_gone_too(data, tmp_path, at_step):
    (tmp_path / "runs").mkdir()
    at_step(10, lambda: (shutil.rmtree(tmp_path / "runs"), (tmp_path / "runs").write_text("mine")))
    with pytest.raises(InputError, match=r"checkpoints: cannot be written: Not a directory"):
        alone(config(data, tmp_path / "runs" / "x", network="mlp"))
    assert (tmp_path / "runs").read_text() == "mine"


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_samples(data, tmp_path, momentum):
    settings = config(data, tmp_path / "run", momentum=momentum)
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
        assert name == "running.moments" or torch.equal(tensor, before[name]), name  # moments are of batches seen


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
real = hdf5._pixel_errors
def slowly(images, samples, mark):
    for start in samples[::16]:
        yield from real(images, range(start, min(start + 16, samples.stop)), mark)
        time.sleep(2)
hdf5._pixel_errors = slowly
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
