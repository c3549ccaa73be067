"""The MPI ranks of a start, and what they agree on."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

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
                signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # to end: MPICH's own handler drops it
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
        """Rank 0 makes a part for each rank, which gets it; an InputError there is raised on all."""
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

    def command(self, work: Callable[[], int]) -> int:
        """The exit code of a command that all ranks do.

        An InputError of all is raised, for rank 0 to say; any other error of one of several ranks ends them all.
        """
        try:
            return work()
        except InputError as error:
            error.reported = self.rank > 0
            raise
        except KeyboardInterrupt:
            print("interrupted; the same command goes on from here", file=sys.stderr)
            return 130
        except Exception:
            if self.comm is None:
                raise
            self.abort()
            return 1

    def abort(self) -> None:
        """After an error of the program itself: the trace, and the end of every rank."""
        traceback.print_exc()
        sys.stderr.flush()
        if self.comm:
            self.comm.Abort(1)
