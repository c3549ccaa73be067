"""What a search says while it runs: a bar on a terminal, a line for each trial that ended in a log."""

import shlex
import sys
from pathlib import Path

from tqdm import tqdm

from hpo.logbook import Logbook, Row
from hpo.results import chosen, front


class Progress:
    """Called after each trial that ended."""

    def __init__(self, max_evals: int, workers: int, ended: int) -> None:
        """ended: trials of earlier sessions."""
        self.max_evals, self.workers, self.shown = max_evals, workers, ended
        self.bar = tqdm(total=max_evals, initial=ended, unit="trial", disable=not sys.stderr.isatty())

    def __enter__(self) -> "Progress":
        self.bar.write(f"{self.max_evals} trials, {self.workers} at a time, {self.shown} ended before", file=sys.stdout)
        sys.stdout.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, logbook: Logbook, running: int) -> None:
        rows = logbook.rows
        failed = sum(row.state == "failed" for row in rows)
        best = chosen(rows)
        state = f"{running} running, {failed} failed"
        if sys.stderr.isatty():
            scores = f", #{best.trial} {_scores(best, short=True)}" if best else ""
            self.bar.set_postfix_str(state + scores, refresh=False)
            self.bar.update(len(rows) - self.bar.n)
        elif len(rows) > self.shown:
            scores = f"chosen so far #{best.trial} {_scores(best)}" if best else "none finished yet"
            left = _left(rows, self.max_evals, self.workers)
            print(f"{len(rows)}/{self.max_evals}  {describe(rows[-1])};  {state}, {scores};  left {left}", flush=True)
        self.shown = len(rows)

    def summary(self, logbook: Logbook, out: Path) -> str:
        """The end of a session, as lines of text."""
        rows = logbook.rows
        counts = {state: sum(row.state == state for row in rows) for state in ("finished", "stopped", "failed")}
        lines = [f"{len(rows)} trials: " + ", ".join(f"{count} {state}" for state, count in counts.items())]
        best = chosen(rows)
        for row in front(rows):
            lines.append(f"  {'chosen' if row is best else 'front '} {describe(row)}")
        if logbook.running:
            lines.append(f"{len(logbook.running)} trials were interrupted: the same command with --resume goes on")
        lines.append(f"written: {out}/report.html, results.csv, and each trial's run in {out}/trials/")
        if best:
            lines.append(f"next: python -m hpo.search best {shlex.quote(str(out))}")
        return "\n".join(lines)


def describe(row: Row) -> str:
    """A trial in a line."""
    point = " ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                     for name, value in row.point.items())  # fmt: skip
    seconds = round(row.ended - row.started)
    scores = f" {_scores(row)}" if row.objectives else ""
    reason = f" ({row.reason})" if row.reason else ""
    epochs = "1 epoch" if row.epochs == 1 else f"{row.epochs} epochs"
    return f"#{row.trial} {row.state}{reason} after {epochs}, {seconds} s:{scores} {point}"


def _scores(row: Row, short: bool = False) -> str:
    assert row.objectives is not None
    if short:  # a terminal has 80 columns
        return f"MSE {row.objectives.mse:.2g} gap {row.objectives.gap:.3f}"
    return f"MSE {row.objectives.mse:.3g}, 1-LDS/attainable {row.objectives.gap:.3f}"


def _left(rows: list[Row], max_evals: int, workers: int) -> str:
    if not rows:
        return "unknown"
    mean = sum(row.ended - row.started for row in rows) / len(rows)
    left = mean * max(0, max_evals - len(rows)) / workers
    return f"about {left / 60:.0f} min" if left > 90 else f"about {left:.0f} s"
