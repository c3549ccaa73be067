"""What a search says while it runs: a bar on a terminal, a line for each trial that ended in a log."""

import shlex
from pathlib import Path

from hpcauxvae.runtime.progress import Progress
from hpo.logbook import Logbook
from hpo.results import STATES, chosen, front


class SearchProgress(Progress):
    """How many of the trials have ended."""

    def __init__(self, logbook: Logbook, trials: int, workers: int) -> None:
        print(f"{trials} trials, {workers} at a time, {len(logbook.rows)} ended before", flush=True)
        super().__init__(trials, "trial", done=len(logbook.rows), every_s=0)
        self.logbook = logbook

    def show(self, running: int) -> None:
        """Called after each trial that ended, when so many run."""
        rows = self.logbook.rows
        ended = len(rows) - self.done
        self.advance(ended)
        best = chosen(rows)
        state = f"{running} running, {sum(row.state == 'failed' for row in rows)} failed"
        if self.has_bar:
            self.say(state + (f", #{best.trial} {best.scores(short=True)}" if best else ""))
        elif ended:
            scores = f"chosen so far #{best.trial} {best.scores()}" if best else "none finished yet"
            self.say(f"{rows[-1]};  {state}, {scores}")

    def summary(self, out: Path) -> str:
        """The end of a session, as lines of text."""
        rows, running, best = self.logbook.rows, len(self.logbook.running), chosen(self.logbook.rows)
        counts = ", ".join(f"{sum(row.state == state for row in rows)} {state}" for state in STATES)
        lines = [f"{len(rows)} trials: {counts}"]
        lines += [f"  {'chosen' if row is best else 'front '} {row}" for row in front(rows)]
        if running:
            lines.append(f"{running} trials were interrupted: the same command with --resume goes on")
        lines.append(f"written: {out}/report.html, results.csv, and each trial's run in {out}/trials/")
        if best:
            lines.append(f"next: python -m hpo.search best {shlex.quote(str(out))}")
        return "\n".join(lines)
