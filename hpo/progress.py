"""What a search says while it runs: a bar on a terminal, a line for each trial that ended in a log."""

import sys
from pathlib import Path

from tqdm import tqdm

from hpo.journal import Journal, Row
from hpo.results import chosen, front


class Progress:
    """Called after each trial that ended."""

    def __init__(self, max_evals: int, workers: int) -> None:
        self.max_evals, self.workers, self.shown = max_evals, workers, 0
        self.bar = tqdm(total=max_evals, unit="trial", disable=not sys.stderr.isatty())

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, journal: Journal, running: int) -> None:
        rows = journal.rows
        failed = sum(row.state == "failed" for row in rows)
        best = chosen(rows)
        left = _left(rows, self.max_evals, self.workers)
        state = f"{running} running, {failed} failed, best {_scores(best) if best else 'none yet'}"
        if sys.stderr.isatty():
            self.bar.set_postfix_str(state)
            self.bar.update(len(rows) - self.bar.n)
        elif len(rows) > self.shown:
            last = rows[-1]
            print(f"{len(rows)}/{self.max_evals}  {describe(last)};  {state};  left {left}", flush=True)
        self.shown = len(rows)

    def summary(self, journal: Journal, out: Path) -> str:
        """The end of a session, as lines of text."""
        rows = journal.rows
        counts = {state: sum(row.state == state for row in rows) for state in ("finished", "stopped", "failed")}
        lines = [f"{len(rows)} trials: " + ", ".join(f"{count} {state}" for state, count in counts.items())]
        best = chosen(rows)
        for row in front(rows):
            lines.append(f"  {'chosen' if row is best else 'front '} {describe(row)}")
        if journal.running:
            lines.append(f"{len(journal.running)} trials were interrupted: the same command with --resume goes on")
        lines.append(f"written: {out}/report.html, results.csv, and each trial's run in {out}/trials/")
        return "\n".join(lines)


def describe(row: Row) -> str:
    """A trial in a line."""
    point = " ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                     for name, value in row.point.items())  # fmt: skip
    seconds = round(row.ended - row.started)
    scores = f" {_scores(row)}" if row.objectives else ""
    reason = f" ({row.reason})" if row.reason else ""
    return f"#{row.trial} {row.state}{reason} after {row.epochs} epochs, {seconds} s:{scores} {point}"


def _scores(row: Row) -> str:
    assert row.objectives is not None
    return f"MSE {row.objectives.mse:.3g}, 1-LDS/attainable {row.objectives.gap:.3f}"


def _left(rows: list[Row], max_evals: int, workers: int) -> str:
    if not rows:
        return "unknown"
    mean = sum(row.ended - row.started for row in rows) / len(rows)
    minutes = mean * max(0, max_evals - len(rows)) / workers / 60
    return f"about {minutes:.0f} min"
