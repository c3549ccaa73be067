"""What the folder of a run tells of its training, and whether that still runs: files alone, of any machine.

A training holds `lock` from before its first file until after `status.json`, which it does not leave when it is killed.
"""

import contextlib
import io
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hpcauxvae.metrics.reading import NOT_READ
from hpcauxvae.runtime.lock import inside
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO
from hpcauxvae.train.tracking import BEAT, LOG, NOT_KEPT, RECONSTRUCTIONS, RISEN, STARTS, history, starts
from hpcauxvae.types import InputError

Word = Literal["starting", "running", "silent", "stopped", "finished", "failed"]
LIVE: tuple[Word, ...] = ("starting", "running", "silent")
SETTLED_S = 10.0
"""A shared file system may show one file later than another: until so long after the last change a run without lock and
status is not given up."""
_SILENT_S, _SILENT_EPOCHS = 60.0, 3
"""Without a sign for so long, and for as long as so many epochs took, a run is silent."""
_QUEUE_S = 86_400.0
"""So long a job that was put back into the queue is waited for."""
_ROW = {"step", "seconds", "images_per_s", "train", "validation"}
_DEPTH = 3  # folders below one in which runs are looked for: SEARCH/trials/7/fold2


class State(NamedTuple):
    """A run at a moment."""

    folder: Path
    word: Word
    why: str
    """Who is inside, or how it ended, in words."""
    at: float
    """Last sign of life, seconds since 1970, by the clock of the file system."""
    config: dict[str, Any]
    """config.json; empty before there is one."""
    rows: list[dict[str, Any]]
    """Of the epochs that are done, as tracking.EpochLog.write has them."""
    starts: list[dict[str, Any]]
    beat: dict[str, Any]
    """Of the epoch that is being trained, as EpochLog.beat has it; empty if nothing is known."""
    left_s: float | None
    """Seconds to the end, if it goes on as before."""

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return self.rows[-1]["epoch"] if self.rows else 0

    @property
    def epochs(self) -> int:
        """Of how many."""
        return self.config.get("epochs", 0)

    @property
    def comes_back(self) -> bool:
        """Stopped on request within a job a day ago at most: the script puts it back into the queue."""
        recent = time.time() - self.at < _QUEUE_S
        return self.word == "stopped" and recent and bool(self.starts and self.starts[-1].get("job"))

    @property
    def picture(self) -> Path | None:
        """Its newest reconstructions."""
        path = self.folder / RECONSTRUCTIONS
        return path if path.exists() else None


def runs_in(folder: Path) -> list[Path]:
    """The run that a folder is, or those that lie in it, as of a search; InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; allowed: that of a training run, or of several")
    if _is_run(folder):
        return [folder]
    found = [path for path in _below(folder, _DEPTH) if _is_run(path)]
    if not found and (folder / "lock").exists():  # it has only just begun
        return [folder]
    if not found:
        raise InputError(f"{folder}: holds no training run, which has {LOG}; allowed: the folder of one, or of several")
    return found


def _is_run(folder: Path) -> bool:
    return (folder / LOG).exists() or (folder / STARTS).exists()


def _below(folder: Path, depth: int) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name)):
            if path.is_dir() and not path.is_symlink() and path.name != "checkpoints":
                yield path
                if depth > 1 and not _is_run(path):
                    yield from _below(path, depth - 1)


_ENDED: dict[Path, tuple[tuple[int, ...], State]] = {}
"""Runs that had ended, with the times and sizes of their files: of many only those are read that have changed."""


def look(folder: Path, now: float) -> State:
    """At a run. now: seconds since 1970."""
    files = [folder / name for name in ("lock", LOG, STARTS, BEAT, "status.json", "config.json", RECONSTRUCTIONS)]
    stats = [path.stat() if path.exists() else None for path in files]
    stamp = tuple(number for of in stats for number in ((of.st_mtime_ns, of.st_size) if of else (0, 0)))
    if folder in _ENDED and _ENDED[folder][0] == stamp:
        return _ENDED[folder][1]
    state = _look(folder, now)
    if state.word not in LIVE and now - state.at > SETTLED_S:
        _ENDED[folder] = stamp, state
    return state


def _look(folder: Path, now: float) -> State:
    locked = (folder / "lock").exists()  # before status.json: the lock goes last
    holder = inside(folder, taken_over=False)
    with contextlib.redirect_stderr(io.StringIO()):  # a damaged line would be told again and again
        rows, begun = [row for row in history(folder) if row.keys() >= _ROW], starts(folder)
    config, status = _read(folder / "config.json"), _read(folder / "status.json")
    config = config if "model" in config else {}  # of another program
    if status and _time(folder / "status.json") >= _time(folder / "lock"):  # the lock is about to go
        locked, holder = False, None
    at = max(_time(folder / name) for name in ("", "lock", LOG, STARTS, BEAT, "status.json"))
    beat = _read(folder / BEAT)
    if not holder or _time(folder / BEAT) < _time(folder / LOG):
        beat = {}
    word, why = _word(locked, holder, status, bool(config))
    if word not in LIVE and status:
        at = _time(folder / "status.json")
    if word == "failed" and not status and not locked and now - at < SETTLED_S:
        word, why = "running", "its files change"
    pace = _pace(folder, rows, begun)
    if word == "running" and now - at > _patience(rows, config, pace):
        word = "silent"
    left = None if pace is None else pace * (config.get("epochs", 0) - rows[-1]["epoch"] - _part(beat, rows))
    return State(folder, word, why, at, config, rows, begun, beat, left)


def _word(locked: bool, holder: str | None, status: dict[str, Any], configured: bool) -> tuple[Word, str]:
    if holder:
        return ("starting" if status or not configured else "running"), holder
    if locked:
        return "failed", "its process is gone without a word, as when it is killed or out of memory"
    if not status:
        return "failed", "it ended without a word"
    ends: dict[int, Word] = {FINISHED: "finished", MORE_TO_DO: "stopped"}
    return ends.get(status.get("exit_code", -1), "failed"), str(status.get("reason", ""))


def _pace(folder: Path, rows: list[dict[str, Any]], begun: list[dict[str, Any]]) -> float | None:
    """Seconds from one epoch to the next: by the clock since this start, validation included, or those of training."""
    if not rows:
        return None
    since = rows[-1]["epoch"] - (begun[-1]["epoch"] if begun else 0)
    if begun and since > 0 and (spent := _time(folder / LOG) - _time(folder / STARTS)) > 0:
        return spent / since
    return statistics.median(row["seconds"] for row in rows[-5:])


def _patience(rows: list[dict[str, Any]], config: dict[str, Any], pace: float | None) -> float:
    if pace is None:
        return max(_SILENT_S, 60 * config.get("timeout_minutes", 10.0))
    return max(_SILENT_S, _SILENT_EPOCHS * max(pace, rows[-1]["seconds"]))


def _part(beat: dict[str, Any], rows: list[dict[str, Any]]) -> float:
    """How much of the epoch that is being trained is done."""
    return beat["step"] / beat["steps"] if beat and beat["epoch"] == rows[-1]["epoch"] + 1 else 0.0


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) else {}
    return {}


def _time(path: Path) -> float:
    """When it was changed; 0 where it is not there."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def best_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The epoch with the lowest validation loss, of those that have a finite one."""
    finite = [row for row in rows if math.isfinite(row["validation"]["loss"])]
    return min(finite or rows[-1:], key=lambda row: row["validation"]["loss"])


def findings(state: State) -> list[str]:
    """What its epochs tell so far against it, in words; of a run that was evaluated, what that has found."""
    evaluated = _read(state.folder / "metrics.json")
    if state.word not in LIVE and evaluated.get("epoch") == state.epoch:
        blocks = evaluated.get("sets", {}).items()
        return [f"{name}: {line}" for name, block in blocks for line in block["verdicts"] if "no finding" not in line]
    if not state.rows:
        return []
    row, yet = state.rows[-1], " yet" if state.epoch < state.epochs else ""
    reading = row.get("reading", {})
    found = [f"{name} is not read{yet} (r = {of['r']:.2f})" for name, of in reading.items() if abs(of["r"]) < NOT_READ]
    found += [f"{name} is reversed (r = {of['r']:.2f})" for name, of in reading.items() if of["r"] <= -NOT_READ]
    if row.get("latents_in_use", len(reading) + 1) <= len(reading) < state.config.get("latents", 0):
        found.append(
            f"{row['latents_in_use']} of {state.config['latents']} latents are in use, and {len(reading)} are guided: "
            f"what nobody measured is not in the code{yet}"
        )
    if row.get("tolerance") and 2 * state.epoch > state.epochs and row["dependence"] > NOT_KEPT * row["tolerance"]:
        found.append(f"independence is not kept{yet}: dependence {row['dependence']:.4f}, of {row['tolerance']:.4f}")
    if not math.isfinite(row["validation"]["loss"]):
        return [*found, f"the validation loss is not finite ({row['validation']['loss']})"]
    best = best_of(state.rows)
    then, last = (one["validation"].get("mse", 0.0) for one in (best, row))
    if last > RISEN * then > 0:
        risen = f"the MSE has risen by {last / then - 1:.0%} since"
        found.append(f"epoch {best['epoch']} was the best by validation; {risen}")
    return found
