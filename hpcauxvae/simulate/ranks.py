"""The MPI ranks of a start, and how their work is dealt out."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

import numpy as np

from hpcauxvae.runtime.files import attempt
from hpcauxvae.runtime.launchers import mpi_started_several, refuse_singletons
from hpcauxvae.types import InputError

T = TypeVar("T")


class Ranks:
    """The MPI ranks of this start, or this process alone."""

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        """MPI is started only where a launcher of MPI started several processes.

        Raises InputError where this process sees itself alone and a launcher says that it started several.
        """
        self.comm: Any = None
        found_by = "no MPI launcher"
        if mpi_started_several(env):
            try:
                from mpi4py import MPI

                self.comm, found_by = MPI.COMM_WORLD, "mpi4py"
            except (ImportError, RuntimeError) as error:
                found_by = f"mpi4py cannot be imported: {error}"
        self.rank: int = self.comm.rank if self.comm else 0
        self.size: int = self.comm.size if self.comm else 1
        refuse_singletons(self.size, found_by, env)

    def first(self, work: Callable[[], T]) -> T:
        """Rank 0 works; every rank gets what it returned, or the InputError that it raised."""
        result, error = attempt(work) if self.rank == 0 else (None, None)
        if self.comm:
            result, error = self.comm.bcast((result, error))
        if error:
            raise InputError(error)
        return result  # type: ignore[return-value]

    def deal(self, work: Callable[[], list[T]]) -> T:
        """Rank 0 makes one thing for each rank, and each gets its own; an InputError there is raised on all."""
        parts, error = attempt(work) if self.rank == 0 else (None, None)
        error = self.comm.bcast(error) if self.comm else error
        if error:
            raise InputError(error)
        return self.comm.scatter(parts) if self.comm else parts[0]  # type: ignore[index]

    def each(self, work: Callable[[], T]) -> list[T]:
        """Every rank works; rank 0 gets what each returned, in order, the others nothing.

        An InputError of any is raised on all, once all are through.
        """
        result, error = attempt(work)
        errors = self.comm.allgather(error) if self.comm else [error]
        for rank, error in enumerate(errors):
            if error:
                raise InputError(f"{error} (rank {rank} of {self.size})" if self.size > 1 else error)
        gathered: list[T] | None = self.comm.gather(result) if self.comm else [result]  # type: ignore[list-item]
        return gathered or []

    def abort(self) -> None:
        """After an error of the program itself: the trace, and the end of every rank."""
        traceback.print_exc()
        sys.stderr.flush()
        if self.comm:
            self.comm.Abort(1)


FIRST_SHARE = 2
"""A rank starts with 1 / FIRST_SHARE of an even share, and is then dealt that part of an even share of what is left."""

_NEWS_S = 2.0
_POLL_S = 2e-4
_ASK, _GRANT = 1, 2
_LEAVES = 2  # (done so far, what): 1 asks for more, 2 leaves, 0 only tells


def grant_size(left: int, size: int) -> int:
    """Chunks in the next grant when so many are left (guided self-scheduling, Polychronopoulos and Kuck 1987)."""
    return min(left, max(1, left // (FIRST_SHARE * size)))


class Dealer:
    """Deals the chunks 0 .. total - 1 to the ranks: a first share each without a word, the rest on demand.

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
        self.served = 0
        self.done = np.zeros(self.size, np.int64)
        """Chunks stored by each rank, as far as rank 0 has heard."""
        self._present = self.size - 1
        self._told = time.monotonic()
        self._news_s = max(_NEWS_S, self.size / 500)

    def grants(self) -> Generator[int, None, None]:
        """The chunks of this rank, one by one; the caller is done with one when it asks for the next."""
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
                self.served += 1
            elif message[1] == _LEAVES:
                self._present -= 1
