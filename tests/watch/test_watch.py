"""`hpcauxvae watch`: what the files of a run tell, of trainings that run, stop, die and fall silent."""

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.forked import Forked, run
from helpers.ranks import ends, running
from helpers.trainings import STEPS, alone, assert_same, config
from hpcauxvae.runtime.stop_requests import FAILED, FINISHED, MORE_TO_DO
from hpcauxvae.train import loop, tracking
from hpcauxvae.train.tracking import history
from hpcauxvae.train.trainer import Trainer
from hpcauxvae.types import InputError
from hpcauxvae.watch.command import main
from hpcauxvae.watch.state import State, findings, look


def watching(folder: Path) -> Forked:
    return Forked(("-m", "hpcauxvae"), "watch", folder, "--every", 0.2, env=os.environ)


def trained(data: Path, out: Path) -> Forked:
    words = config(data, out, network="mlp", epochs=10_000).arguments()
    training = Forked(("-m", "hpcauxvae.train"), *words, env=os.environ)
    running([training], lambda: (out / "metrics.jsonl").exists() and len(history(out)) > 1)
    return training


def said(process: Forked) -> str:
    return process._printed()[0]


@pytest.mark.processes
@pytest.mark.smoke
def test_it_follows_a_training_and_ends_with_it(blobs_file, tmp_path):
    out = tmp_path / "run"
    training = trained(blobs_file, out)
    watch = watching(out)
    running([training, watch], lambda: said(watch).count("\n") > 1)
    assert main([str(out), "--once"]) == FINISHED, "it runs"
    training.send_signal(signal.SIGTERM)
    codes, errors = ends([training, watch])
    assert codes == [MORE_TO_DO, MORE_TO_DO], errors
    *lines, last = said(watch).splitlines()
    rows = history(out)
    for line in lines:
        epoch = int(line.split("epoch ")[1].split("/")[0])
        assert line.startswith(f"{out}  running  epoch {epoch}/10000  loss {rows[epoch - 1]['train']['loss']:.4g}  ")
    assert f"stopped  epoch {len(rows)}/10000" in last and "(SIGTERM); the same command with --resume auto" in last


@pytest.mark.processes
def test_a_training_that_is_killed_has_failed(blobs_file, tmp_path):
    out = tmp_path / "run"
    training = trained(blobs_file, out)
    training.kill()
    training.wait()
    done = run("-m", "hpcauxvae", "watch", out)
    assert done.returncode == FAILED
    assert "failed" in done.stdout and "its process is gone without a word" in done.stdout


def test_a_finished_run_is_told_with_its_scores(trained_run, capsys):
    ended = (trained_run / "status.json").stat().st_mtime
    assert look(trained_run, time.time() + 1e6).at == ended, "whatever an evaluation has written there since"
    assert main([str(trained_run), "--once"]) == FINISHED
    shown = capsys.readouterr().out
    one, two = history(trained_run)
    change = two["train"]["loss"] / one["train"]["loss"] - 1
    assert shown.startswith(f"{trained_run}  finished at 20") and "epoch 2/2 done  step 14 done" in shown
    line = next(line for line in shown.splitlines() if line.startswith("loss "))
    assert line.split()[1:3] == [f"{two['train']['loss']:.4g}", f"{change:+.1%}"]
    assert line.split()[3] == f"{two['validation']['loss']:.4g}"
    assert f"{two['latents_in_use']} of 10 latents in use" in shown
    assert f"dependence {two['dependence']:.4f}, tolerance {two['tolerance']:.4f}" in shown


def another_host(folder: Path, ago: float, job: str | None = None) -> None:
    """The folder as that of a training of two epochs elsewhere, which wrote its last file so many seconds ago."""
    owner = {"host": "elsewhere", "pid": 7, "started": 1, "job": job, "restart": None}
    (folder / "lock").write_text(json.dumps(owner))
    (folder / "status.json").unlink()
    for path in (*folder.iterdir(), folder):
        with contextlib.suppress(OSError):
            os.utime(path, (time.time() - ago,) * 2, follow_symlinks=False)


@pytest.mark.parametrize(("ago", "word"), [(5, "running"), (150, "silent")])
def test_a_training_of_another_machine_is_silent_once_no_file_changes(run_copy, capsys, ago, word):
    another_host(run_copy, ago)
    assert main([str(run_copy), "--once"]) == FINISHED
    shown = capsys.readouterr().out
    if word == "silent":
        assert "silent for 2 min 3" in shown
    assert f"{word}" in shown and "process 7 on elsewhere" in shown


@pytest.mark.parametrize(("later", "word"), [(-5, "finished"), (5, "starting")])
def test_a_lock_beside_a_status_is_of_the_start_after_it_or_about_to_go(run_copy, later, word):
    status, lock = run_copy / "status.json", run_copy / "lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 7, "started": 1, "job": None, "restart": None}))
    os.utime(lock, (status.stat().st_mtime + later,) * 2)
    assert look(run_copy, time.time()).word == word


@pytest.mark.processes
def test_a_job_that_was_stopped_is_waited_for(run_copy):
    (start,) = tracking.starts(run_copy)
    (run_copy / "starts.jsonl").write_text(json.dumps(start | {"job": "4711"}) + "\n")
    (run_copy / "status.json").write_text('{"exit_code": 75, "reason": "SIGUSR1"}')
    watch = watching(run_copy)
    running([watch], lambda: "stopped" in said(watch))
    time.sleep(1)
    assert watch.poll() is None and "(SIGUSR1); if its job goes on, so does this" in said(watch)
    (run_copy / "status.json").write_text('{"exit_code": 0, "reason": "finished"}')
    assert ends([watch])[0] == [FINISHED]


@pytest.mark.parametrize(
    ("status", "words"),
    [({"exit_code": 1, "reason": "epoch 3: not finite"}, "FAILED at "), (None, "it ended without a word")],
)
def test_a_failure_is_told(run_copy, capsys, status, words):
    another_host(run_copy, 60)
    (run_copy / "lock").unlink()
    os.utime(run_copy, (time.time() - 60,) * 2)
    if status:
        (run_copy / "status.json").write_text(json.dumps(status))
    assert main([str(run_copy)]) == FAILED
    assert main([str(run_copy), "--once"]) == FAILED
    shown = capsys.readouterr().out
    assert words in shown and ("not finite" in shown) == bool(status)


def test_a_folder_of_runs_has_a_line_each(run_copy, tmp_path, capsys):
    search = tmp_path / "search"
    for trial in (2, 10):
        shutil.copytree(run_copy, search / "trials" / str(trial), symlinks=True)
    (search / "trials" / "10" / "status.json").write_text('{"exit_code": 1, "reason": "out of memory"}')
    assert main([str(search), "--once"]) == FAILED
    head, first, second = capsys.readouterr().out.splitlines()
    assert head == f"{search}: 2 runs, 1 finished, 1 failed"
    assert first.startswith("trials/2  finished  epoch 2/2  loss ")
    assert second.startswith("trials/10  failed  epoch 2/2  loss ") and second.endswith(": out of memory")


def test_what_is_no_run_is_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder; allowed: that of a training run"):
        main([str(tmp_path / "nowhere")])
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match=r"holds no training run, which has metrics\.jsonl"):
        main([str(tmp_path)])
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 3, "of": "another program"}\n')
    assert main([str(tmp_path), "--once"]) == FINISHED, "its rows are none of ours"
    with pytest.raises(InputError, match=r"every = 0\.0; allowed: 0\.1 to 3600"):
        main([str(tmp_path), "--every", "0"])


def test_how_far_an_epoch_has_come_is_noted_and_changes_no_weight(blobs_file, trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_BEAT_S", 0.0)
    monkeypatch.setattr(loop, "CHECK_EVERY", 2)
    out, seen, real = tmp_path / "run", [], Trainer.train_step

    def step(trainer: Trainer, *arguments: Any) -> Any:
        if trainer.step == STEPS + 5:
            seen.append((look(out, time.time()), {k: float(v) / 5 for k, v in trainer.totals.items()}))
        return real(trainer, *arguments)

    monkeypatch.setattr(Trainer, "train_step", step)
    assert alone(config(blobs_file, out, epochs=2)) == FINISHED
    ((state, means),) = seen
    assert (state.word, state.epoch, state.epochs) == ("running", 1, 2)
    assert (state.beat["epoch"], state.beat["step"], state.beat["steps"]) == (2, 4, STEPS)
    assert state.beat["train"].keys() == history(out)[0]["train"].keys() and means["kl"] > 0
    assert 0 < state.left_s < 60
    assert not (out / tracking.BEAT).exists()
    assert_same(trained_run, out)


def state_of(rows: list[dict[str, Any]], epochs: int) -> State:
    settings = {"epochs": epochs, "latents": 10}
    return State(Path("nowhere"), "running", "", 0.0, settings, rows, [], {}, None)


def row(epoch: int, loss: float, mse: float, **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, "validation": {"loss": loss, "mse": mse}, **more}


def test_findings_of_a_run_that_goes_badly_and_of_one_that_does_not():
    bad = {
        "reading": {"g1": {"r": 0.14}, "g2": {"r": -0.9}, "flux": {"r": 0.95}},
        "latents_in_use": 3, "dependence": 0.02, "tolerance": 0.003,
    }  # fmt: skip
    assert findings(state_of([row(5, 1.0, 1.0), row(6, 2.0, 1.5, **bad)], 10)) == [
        "g1 is not read yet (r = 0.14)",
        "g2 is reversed (r = -0.90)",
        "3 of 10 latents are in use, and 3 are guided: what nobody measured is not in the code yet",
        "independence is not kept yet: dependence 0.0200, of 0.0030",
        "epoch 5 was the best by validation; the MSE has risen by 50% since",
    ]
    assert findings(state_of([row(3, 2.0, 1.0, dependence=0.02, tolerance=0.003)], 10)) == [], "it is early"
    good = {
        "reading": {"g1": {"r": 0.94}}, "latents_in_use": 8, "dependence": 0.002, "tolerance": 0.003
    }  # fmt: skip
    assert findings(state_of([row(9, 2.0, 1.0), row(10, 1.0, 1.01, **good)], 10)) == []


def test_a_loss_that_is_not_finite_is_a_finding_and_not_the_end_of_watching(run_copy, capsys):
    rows = [json.loads(line) for line in (run_copy / "metrics.jsonl").read_text().splitlines()]
    rows[-1]["validation"]["loss"] = float("nan")
    (run_copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([str(run_copy), "--once"]) == FINISHED
    shown = capsys.readouterr().out
    assert "the validation loss is not finite (nan)" in shown and "(epoch 1)" in shown


def test_a_job_that_was_stopped_long_ago_is_not_waited_for(run_copy, capsys):
    (start,) = tracking.starts(run_copy)
    (run_copy / "starts.jsonl").write_text(json.dumps(start | {"job": "4711"}) + "\n")
    (run_copy / "status.json").write_text('{"exit_code": 75, "reason": "SIGUSR1"}')
    os.utime(run_copy / "status.json", (time.time() - 2 * 86400,) * 2)
    assert main([str(run_copy)]) == MORE_TO_DO
    assert "the same command with --resume auto goes on" in capsys.readouterr().out


def test_a_run_of_a_node_that_this_job_might_take_over_is_not_gone(run_copy, monkeypatch):
    monkeypatch.setenv("PBS_JOBID", "5.pbs")
    another_host(run_copy, 5, job="5.pbs")
    assert look(run_copy, time.time()).word == "running"


def test_config_of_another_program_and_half_a_lock_are_none(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 3, "of": "another program"}\n')
    (tmp_path / "config.json").write_text('{"of": "another program"}')
    (tmp_path / "lock").write_text('{"host": "elsewhere", "pid": 7}')
    assert main([str(tmp_path), "--once"]) in (FINISHED, FAILED)
    assert "it reads its data" in capsys.readouterr().out


def test_runs_that_have_ended_are_read_once(run_copy, monkeypatch):
    os.utime(run_copy / "status.json", (time.time() - 60,) * 2)
    for name in ("", "lock", "metrics.jsonl", "starts.jsonl", "progress.json"):
        if (run_copy / name).exists():
            os.utime(run_copy / name, (time.time() - 60,) * 2)
    first = look(run_copy, time.time())
    monkeypatch.setattr("hpcauxvae.watch.state.history", lambda folder: pytest.fail("it is read again"))
    assert look(run_copy, time.time()) is first and first.word == "finished"
    monkeypatch.undo()
    (run_copy / "status.json").write_text('{"exit_code": 1, "reason": "out of memory"}')
    assert look(run_copy, time.time()).word == "failed"
