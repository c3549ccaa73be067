"""The chunks of a set that ranks make: what earlier starts left, what is missing, and its making."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcauxvae.data import journal
from hpcauxvae.data.journal import SUFFIX, Journal, Rows, Stored
from hpcauxvae.runtime.dealer import Dealer
from hpcauxvae.runtime.progress import Progress
from hpcauxvae.runtime.ranks import Ranks


class Missing:
    """Chunks still to be made, kept as runs so that a fresh set of any size takes a few bytes on every rank."""

    def __init__(self, runs: np.ndarray) -> None:
        """runs: (M, 2), half-open."""
        self.runs = runs
        self._before = np.concatenate([[0], np.cumsum(runs[:, 1] - runs[:, 0])])

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, position: int) -> int:
        run = int(np.searchsorted(self._before, position, side="right")) - 1
        return int(self.runs[run, 0] + position - self._before[run])


def missing_of(rows: Rows, found: Stored) -> Missing:
    """The chunks that are not among these."""
    absent = np.ones(rows.chunks, bool)
    absent[found.chunk] = False
    numbers = np.flatnonzero(absent)
    if len(numbers) == 0:
        return Missing(np.empty((0, 2), np.int64))
    gaps = np.flatnonzero(np.diff(numbers) > 1)
    return Missing(np.stack([numbers[[0, *(gaps + 1)]], numbers[[*gaps, -1]] + 1], axis=1))


def journals_of(parts: Path) -> list[Path]:
    """The journals in a folder, in the order of their names."""
    return sorted(parts.glob(f"*{SUFFIX}"))


def next_journal(parts: Path, paths: list[Path], number: int) -> Path:
    """The journal of a rank, or a process, of this number in the start that comes after those which left `paths`."""
    start = 1 + max((int(path.stem.partition("-")[0]) for path in paths), default=-1)
    return parts / f"{start:06d}-{number:06d}{SUFFIX}"


def found_in(paths: list[Path], rows: Rows, ranks: Ranks) -> Stored:
    """On rank 0 the whole chunks in these journals, each once; every rank reads some of them."""
    own = [(number, path) for number, path in enumerate(paths) if number % ranks.size == ranks.rank]
    parts = ranks.each(lambda: [journal.scan(path, number, rows) for number, path in own])
    return journal.distinct([Stored.none(), *(found for part in parts for found in part)])


class Made(NamedTuple):
    """The part of a rank."""

    path: Path | None
    """Its journal; None where it made nothing."""
    records: np.ndarray
    """(M, 3): chunk, offset, CRC."""
    seconds: float
    """Until its last chunk was stored."""


def make_dealt(
    ranks: Ranks,
    rows: Rows,
    missing: Missing,
    path: Path,
    maker: Callable[[], Callable[[int, Callable[[], None]], bytes]],
    progress: Progress,
    words: Callable[[], str],
) -> Made:
    """Makes the chunks that are dealt to this rank and appends them to a journal at `path`.

    maker: gives the function that makes the data of a chunk, and calls its second argument often, with which rank 0
    answers others. words: what the progress says beside its numbers.
    Raises what `maker` and that function raise, and InputError where the disk takes no more; the others then stop, too.
    """
    with ExitStack() as stack:
        dealer = stack.enter_context(Dealer(ranks, len(missing)))
        make, first = maker(), progress.done
        stored: Journal | None = None
        began, seconds = time.monotonic(), 0.0
        for position in dealer.grants():
            chunk = missing[position]
            if stored is None:
                stored = Journal(path)
                stack.callback(stored.close)
            stored.append(chunk, make(chunk, dealer.serve))
            seconds = time.monotonic() - began
            dealer.done[ranks.rank] += 1
            progress.advance(min(first + int(dealer.done.sum()) * rows.chunk, progress.total) - progress.done)
            if progress.is_due():
                progress.say(words())
    records = np.array(stored.records if stored else [], np.int64).reshape(-1, 3)
    return Made(stored.path if stored else None, records, seconds)


def with_made(paths: list[Path], found: Stored, made: list[Made]) -> tuple[list[Path], Stored]:
    """With the journals of this start."""
    paths, parts = list(paths), [found]
    for part in made:
        if part.path:
            chunk, offset, crc = part.records.T
            parts.append(Stored(chunk, np.full(len(chunk), len(paths), np.int64), offset, crc))
            paths.append(part.path)
    return paths, journal.distinct(parts)
