"""The folder of a search: `search.json`, `journal.jsonl` (one line an event, synced), `results.csv` made from it.

A line counts once it ends in a newline; the next start drops what a kill left of a line. So every trial that ended is
there, and a trial that was asked for and has no end was running when the search died.
"""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from hpcauxvae.runtime.files import write_text
from hpcauxvae.types import InputError
from hpo.problem import Objectives, Point

SETTINGS = "search.json"

State = Literal["finished", "stopped", "failed", "interrupted"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A trial that ended."""

    trial: int
    point: Point
    state: State
    """finished: all its epochs; stopped: early, for most do better; failed: see `reason`; interrupted: the search was
    asked to stop, and the next session goes on with this trial, which has not ended."""
    reason: str
    """Why it failed or was stopped; empty for a finished trial."""
    objectives: Objectives | None
    """At the last epoch; None for a failed trial."""
    epochs: int
    """Passes over the training split."""
    started: float
    """Seconds since 1970, when its process was started, in this session."""
    ended: float
    worker: str
    """Who ran it: host and number."""
    rungs: list[dict[str, Any]]
    """At each rung of early stopping: epoch, objectives, by how many of how many trials there it was beaten."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        event = "interrupted" if self.state == "interrupted" else "ended"
        return {"event": event, **dataclasses.asdict(self), "objectives": self.objectives and self.objectives._asdict()}

    @classmethod
    def from_json(cls, event: dict[str, Any]) -> "Row":
        """The inverse."""
        fields = {name: event[name] for name in cls.__dataclass_fields__}
        return cls(**fields | {"objectives": fields["objectives"] and Objectives(**fields["objectives"])})

    def scores(self, *, short: bool = False) -> str:
        """Its objectives in words, which it must have; short: for a terminal of 80 columns."""
        assert self.objectives is not None
        mse, gap = self.objectives
        return f"MSE {mse:.2g} gap {gap:.3f}" if short else f"MSE {mse:.3g}, 1-LDS/attainable {gap:.3f}"

    def values(self, digits: str = "g") -> dict[str, str]:
        """The values of its point in words."""
        return {name: f"{v:{digits}}" if isinstance(v, float) else str(v) for name, v in self.point.items()}

    def __str__(self) -> str:
        """All of it in a line."""
        point = " ".join(f"{name}={value}" for name, value in self.values().items())
        reason = f" ({self.reason})" if self.reason else ""
        ended = f"after {self.epochs} epoch{'s' * (self.epochs != 1)}, {self.ended - self.started:.0f} s"
        scores = f" {self.scores()}" if self.objectives else ""
        return f"#{self.trial} {self.state}{reason} {ended}:{scores} {point}"


class Logbook:
    """Reads and appends the events of a search."""

    def __init__(self, folder: Path) -> None:
        """Reads what is there; nothing is written. Raises InputError where a whole line is damaged."""
        self.folder = folder
        self.path = folder / "journal.jsonl"
        self.rows: list[Row] = []
        self.interrupted: list[Row] = []
        self.asked: dict[int, Point] = {}
        self.sessions: list[dict[str, Any]] = []
        self.whole_bytes = 0
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        for number, line in enumerate(lines, start=1):
            if line.endswith(b"\n"):
                self.whole_bytes += len(line)
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(f"{self.path}: line {number} is damaged: {error!r}") from error

    def _take(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "session":
                self.sessions.append(event)
            case "asked":
                self.asked[event["trial"]] = event["point"]
            case "ended":
                self.rows.append(Row.from_json(event))
            case "interrupted":
                self.interrupted.append(Row.from_json(event))

    def repair(self) -> None:
        """Cuts off what a kill left of a last line."""
        if self.path.exists() and self.path.stat().st_size > self.whole_bytes:
            os.truncate(self.path, self.whole_bytes)

    @property
    def running(self) -> dict[int, Point]:
        """Trials that were asked for and did not end."""
        ended = {row.trial for row in self.rows}
        return {trial: point for trial, point in self.asked.items() if trial not in ended}

    def session(self, **about: Any) -> None:
        """A search started or goes on."""
        self._append({"event": "session", **about})

    def ask(self, trial: int, point: Point) -> None:
        """A trial is handed to a worker."""
        self._append({"event": "asked", "trial": trial, "point": point})

    def end(self, row: Row) -> None:
        """A trial ended, and results.csv is made anew; or it was interrupted, and only its time is written down."""
        self._append(row.to_json())
        if row.state != "interrupted":
            write_text(self.folder / "results.csv", table(self.rows))

    def _append(self, event: dict[str, Any]) -> None:
        line = json.dumps(event) + "\n"
        try:
            with open(self.path, "a") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error}") from error
        self._take(json.loads(line))


def table(rows: Iterable[Row]) -> str:
    """The rows as CSV with DeepHyper's column names: p: hyperparameters, objectives to be maximised, m: the rest."""
    lines = []
    for row in rows:
        failed = f"F_{row.reason}"
        compared = (failed, failed) if row.objectives is None else [-value for value in row.objectives.compared]
        mse, gap = row.objectives or (None, None)
        lines.append(
            {f"p:{name}": value for name, value in row.point.items()}
            | {"objective_0": compared[0], "objective_1": compared[1], "job_id": row.trial, "job_status": "DONE"}
            | {"m:state": row.state, "m:reason": row.reason, "m:mse": mse, "m:lds_gap": gap, "m:epochs": row.epochs}
            | {"m:timestamp_start": row.started, "m:timestamp_end": row.ended, "m:worker": row.worker}
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0])
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
