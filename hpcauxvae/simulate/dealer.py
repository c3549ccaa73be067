"""How the work of a set is dealt out to the ranks."""

import time
from collections.abc import Generator
from typing import Any

import numpy as np

from hpcauxvae.simulate.ranks import Ranks

FIRST_SHARE = 2
"""A rank starts with 1 / FIRST_SHARE of an even share; each later grant is that part of an even share of the rest."""

_NEWS_S = 2.0
_POLL_S = 2e-4
_ASK, _GRANT = 1, 2
_LEAVES = 2  # (done so far, what): 1 asks for more, 2 leaves, 0 only tells


def grant_size(left: int, size: int) -> int:
    """Chunks in the next grant when so many are left (guided self-scheduling, Polychronopoulos and Kuck 1987)."""
    return min(left, max(1, left // (FIRST_SHARE * size)))


class Dealer:
    """Deals the chunks 0 .. total - 1 to the ranks: a first share to each without asking, the rest on demand.

    Rank 0 draws like the others and answers between two stamps (`serve`), with ordinary messages of two numbers. Grants
    shrink with what is left, so that a rank asks some ten times in a run of any size; it asks for the next grant
    when it begins the last chunk of the present one, and so does not wait for the answer.
    """

    def __init__(self, ranks: Ranks, total: int) -> None:
        self.rank, self.size, self.comm = ranks.rank, ranks.size, ranks.comm
        self.total = total
        share = total // (FIRST_SHARE * self.size) if self.size > 1 else 0
        self.first = (self.rank * share, (self.rank + 1) * share)
        self.dealt = share * self.size
        self.done = np.zeros(self.size, np.int64)
        """Chunks stored by each rank, as far as rank 0 has heard."""
        self._present = self.size - 1
        self._told = time.monotonic()
        self._news_s = max(_NEWS_S, self.size / 500)

    def grants(self) -> Generator[int, None, None]:
        """The chunks of this rank in turn; the caller is done with a chunk when it asks for the next."""
        if self.rank == 0:
            yield from self._own()
        else:
            yield from self._asked()

    def _own(self) -> Generator[int, None, None]:
        try:
            yield from range(*self.first)
            while self.dealt < self.total:
                yield from range(*self._next())
        finally:
            self.dealt = self.total  # after an error here nothing more is given away
            while self._present:
                self.serve()
                time.sleep(_POLL_S)

    def _asked(self) -> Generator[int, None, None]:
        grant, answer, pending = self.first, np.empty(2, np.int64), None
        done = 0
        try:
            while True:
                for chunk in range(*grant):
                    if chunk == grant[1] - 1:
                        pending = self._ask(answer, done)
                    yield chunk
                    done += 1
                    if time.monotonic() - self._told > self._news_s:
                        self._tell(done, 0)
                pending = pending or self._ask(answer, done)
                pending.Wait()
                pending, grant = None, (int(answer[0]), int(answer[1]))
                if grant[0] == grant[1]:
                    return
        finally:
            if pending:
                pending.Wait()
            self._tell(done, _LEAVES)

    def _ask(self, answer: np.ndarray, done: int) -> Any:
        pending = self.comm.Irecv(answer, 0, _GRANT)
        self._tell(done, 1)
        return pending

    def _tell(self, done: int, what: int) -> None:
        self._told = time.monotonic()
        self.comm.Send(np.array([done, what], np.int64), 0, _ASK)

    def _next(self) -> tuple[int, int]:
        begin = self.dealt
        self.dealt += grant_size(self.total - begin, self.size)
        return begin, self.dealt

    def serve(self) -> None:
        """On rank 0, often: answers whoever asks. On the others: nothing."""
        if not self._present:
            return
        from mpi4py import MPI

        status, message = MPI.Status(), np.empty(2, np.int64)
        while self.comm.Iprobe(MPI.ANY_SOURCE, _ASK, status):
            source = status.Get_source()
            self.comm.Recv(message, source, _ASK)
            self.done[source] = message[0]
            if message[1] == 1:
                self.comm.Send(np.array(self._next(), np.int64), source, _GRANT)
            elif message[1] == _LEAVES:
                self._present -= 1
