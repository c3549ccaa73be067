"""What a search says while it runs: a bar on a terminal, a line for each trial that ended in a log."""

import shlex
from pathlib import Path
from typing import Any

from hpcauxvae.runtime.progress import Progress
from hpo.logbook import Logbook, Row
from hpo.results import chosen, front


class SearchProgress:
    """Called after each trial that ended."""

    def __init__(self, max_evals: int, workers: int, ended: int) -> None:
        """ended: trials of earlier sessions."""
        print(f"{max_evals} trials, {workers} at a time, {ended} ended before", flush=True)
        self.progress = Progress(max_evals, "trial", done=ended, every_s=0)

    def __enter__(self) -> "SearchProgress":
        self.progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.progress.__exit__(*error)

    def __call__(self, logbook: Logbook, running: int) -> None:
        rows = logbook.rows
        ended = len(rows) - self.progress.done
        self.progress.advance(ended)
        best = chosen(rows)
        state = f"{running} running, {sum(row.state == 'failed' for row in rows)} failed"
        if self.progress.has_bar:
            self.progress.say(state + (f", #{best.trial} {_scores(best, short=True)}" if best else ""))
        elif ended:
            scores = f"chosen so far #{best.trial} {_scores(best)}" if best else "none finished yet"
            self.progress.say(f"{describe(rows[-1])};  {state}, {scores}")

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
