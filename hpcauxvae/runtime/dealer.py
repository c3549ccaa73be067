"""How the work of a set is dealt out to MPI ranks."""

import time
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

import numpy as np

from hpcauxvae.runtime.ranks import Ranks

FIRST_SHARE = 2
"""A rank starts with 1 / FIRST_SHARE of an even share; each later grant is that part of an even share of the rest."""

_NEWS_S = 2.0
_POLL_S = 2e-4
_ASK, _GRANT, _OVER = 1, 2, 3
_TELLS, _ASKS, _LEAVES, _FAILED = range(4)
"""A message to rank 0 is (chunks done so far, which of these)."""


def grant_size(left: int, size: int) -> int:
    """Chunks in the next grant when so many are left (guided self-scheduling, Polychronopoulos and Kuck 1987)."""
    return min(left, max(1, left // (FIRST_SHARE * size)))


class Dealer:
    """Deals the chunks 0 .. total - 1 to the ranks: a first share to each without asking, the rest on demand.

    Rank 0 works like the others and answers in between (`serve`), with ordinary messages of two numbers. Grants
    shrink with what is left, so that a rank asks some ten times in a run of any size; it asks for the next grant
    when it begins the last chunk of the present one, and so does not wait for the answer.
    Its `with` ends once all ranks are through. An exception in that of one rank ends the grants of all.
    """

    def __init__(self, ranks: Ranks, total: int) -> None:
        self.rank, self.size, self.comm = ranks.rank, ranks.size, ranks.comm
        self.total = total
        share = total // (FIRST_SHARE * self.size) if self.size > 1 else 0
        self.first = (self.rank * share, (self.rank + 1) * share)
        self.dealt = share * self.size
        self.done = np.zeros(self.size, np.int64)
        """Chunks stored by each rank, which counts its own here; on rank 0 of the others as far as it has heard."""
        self._present = self.size - 1
        self._told = time.monotonic()
        self._news_s = max(_NEWS_S, self.size / 500)
        self._answer = np.empty(2, np.int64)
        self._pending: Any = None
        self._over: Any = self.comm.Irecv(np.empty(1, np.int64), 0, _OVER) if self.rank else None
        """The last message of rank 0; there, whether it was sent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.rank:
            if self._pending:
                self._pending.Wait()
            self._tell(_FAILED if kind else _LEAVES)
            self._over.Wait()
            return
        self.dealt = self.total
        if kind:
            self._end()
        while self._present:
            self.serve()
            time.sleep(_POLL_S)
        self._end()

    def grants(self) -> Generator[int, None, None]:
        """The chunks of this rank in turn; the caller is done with a chunk when it asks for the next."""
        return self._asked() if self.rank else self._own()

    def _own(self) -> Generator[int, None, None]:
        grant = self.first
        while True:
            for chunk in range(*grant):
                if self._over:
                    return
                yield chunk
            if self.dealt >= self.total:
                return
            grant = self._next()

    def _asked(self) -> Generator[int, None, None]:
        grant = self.first
        while True:
            for chunk in range(*grant):
                if self._over.Test():
                    return
                if chunk == grant[1] - 1:
                    self._ask()
                yield chunk
                if time.monotonic() - self._told > self._news_s:
                    self._tell(_TELLS)
            if not self._pending:
                self._ask()
            self._pending.Wait()
            self._pending, grant = None, (int(self._answer[0]), int(self._answer[1]))
            if grant[0] == grant[1]:
                return

    def _ask(self) -> None:
        self._pending = self.comm.Irecv(self._answer, 0, _GRANT)
        self._tell(_ASKS)

    def _tell(self, what: int) -> None:
        self._told = time.monotonic()
        self.comm.Send(np.array([self.done[self.rank], what], np.int64), 0, _ASK)

    def _next(self) -> tuple[int, int]:
        begin = self.dealt
        self.dealt += grant_size(self.total - begin, self.size)
        return begin, self.dealt

    def _end(self) -> None:
        """On rank 0: nothing more is dealt, which every other rank hears once."""
        self.dealt = self.total
        if not self._over:
            self._over = True
            for rank in range(1, self.size):
                self.comm.Send(np.zeros(1, np.int64), rank, _OVER)

    def serve(self) -> None:
        """On rank 0, often: answers whoever asks. On the others: nothing."""
        if self.rank or not self._present:
            return
        from mpi4py import MPI

        status, message = MPI.Status(), np.empty(2, np.int64)
        while self.comm.Iprobe(MPI.ANY_SOURCE, _ASK, status):
            source = status.Get_source()
            self.comm.Recv(message, source, _ASK)
            self.done[source] = message[0]
            if message[1] == _ASKS:
                self.comm.Send(np.array(self._next(), np.int64), source, _GRANT)
            elif message[1] in (_LEAVES, _FAILED):
                self._present -= 1
                if message[1] == _FAILED:
                    self._end()
