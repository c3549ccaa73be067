"""How far a piece of work has come: a bar on a terminal, a line at an interval in a log."""

import contextlib
import sys
import time
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm


class Progress:
    """Counts what is done of so many steps, trials or images, and tells the user inside its `with`."""

    def __init__(
        self,
        total: int,
        unit: str,
        *,
        title: str = "",
        done: int = 0,
        speaks: bool = True,
        every_s: float = 60.0,
        lines_to: TextIO | None = None,
    ) -> None:
        """done: what an earlier start did; speaks: whether this is the rank that tells; every_s: between two lines;
        lines_to: where they go, standard output if not given."""
        self.total, self.unit, self.title, self.done, self.speaks = total, unit, title, done, speaks
        self.every_s, self.lines_to = every_s, lines_to
        self._first, self._began = done, time.monotonic()
        self._said = self._began
        self.has_bar = speaks and sys.stderr.isatty()
        self._bar = tqdm(desc=title, total=total, initial=done, unit=unit, leave=False, disable=not self.has_bar)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            self._bar.close()

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        self._bar.update(count)

    @property
    def rate(self) -> float:
        """How many were done in a second since this start."""
        return (self.done - self._first) / max(time.monotonic() - self._began, 1e-9)

    def is_due(self) -> bool:
        """Whether `say` would now be seen."""
        return self.has_bar or (self.speaks and time.monotonic() - self._said >= self.every_s)

    def say(self, text: str = "") -> None:
        """Shows a text beside the bar, or prints a line with it; call it where `is_due`."""
        if self.has_bar:
            self._bar.set_postfix_str(text, refresh=False)
            return
        self._said = time.monotonic()
        left = time_left((self.total - self.done) / self.rate) if self.rate else "left unknown"
        words = [self.title, f"{self.unit} {self.done}/{self.total}", text, left]
        print("  ".join(filter(None, words)), file=self.lines_to, flush=True)


def time_left(seconds: float) -> str:
    """Such as "left 3:05 min"."""
    return f"left {round(seconds) // 60}:{round(seconds) % 60:02} min"
