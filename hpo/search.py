"""The search: `python -m hpo.search DATA.h5 --aux radius,g1,g2 --out searches/x --max-evals 40 --workers 2`.

One loop: ask a strategy for a point, hand it to a worker, write down what came of it, tell the strategy. One more trial
than there are workers is handed out, so that a worker never waits while the next point is computed.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import hpcauxvae
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.runtime.launchers import refuse_singletons
from hpcauxvae.runtime.lock import RunLock, held_elsewhere
from hpcauxvae.runtime.stop_requests import MORE_TO_DO
from hpcauxvae.types import InputError
from hpo import best, pools, report
from hpo.journal import SETTINGS, Journal, Row, write_whole
from hpo.problem import Point, Space
from hpo.processes import TERM_SECONDS, Minder, kill_marked
from hpo.progress import Progress
from hpo.settings import SearchConfig
from hpo.strategies import Bayesian, Grid, Random, Strategy
from hpo.trials import Plan, cancel_steps

_HOPELESS = 10
"""A search ends where so many trials of a session failed in a row and none ever did not, or twice as many where some
did not: a node that can start nothing would use up the search."""


class Hopeless(RuntimeError):
    """Every trial fails."""


class Search:
    """A search in its folder."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        strategy: Strategy,
        pool: pools.Pool,
        progress: Callable[[Journal, int], None],
        max_evals: int,
    ) -> None:
        self.plan, self.journal, self.strategy, self.pool = plan, journal, strategy, pool
        self.progress, self.max_evals = progress, max_evals
        self.waiting: dict[Any, int] = {}
        self.unfinished = dict(journal.running)
        self.before = len(journal.rows)

    def run(self) -> None:
        """Until max_evals trials ended, the strategy has no point left, a stop is asked for, or the time is up."""
        while True:
            self._hand_out()
            if not self.waiting:
                return
            for future in sorted(self.pool.wait(self.waiting, 1.0), key=self.waiting.__getitem__):
                del self.waiting[future]
                if not future.cancelled():
                    self._take(future.result())
                    self._hand_out()  # one point for each end: so many asked at once would know nothing of each other
            if pools.STOP.is_set():
                for future in self.waiting:
                    future.cancel()  # those not yet started

    def _hand_out(self) -> None:
        if self.plan.over:
            pools.STOP.set()
        while not pools.STOP.is_set() and len(self.waiting) <= self.pool.workers:
            trial, point = self._next()
            if point is None:
                break
            self.waiting[self.pool.submit(self.plan, trial, point)] = trial

    def _next(self) -> tuple[int, Point | None]:
        if self.unfinished:
            trial = min(self.unfinished)
            return trial, self.unfinished.pop(trial)
        if len(self.journal.asked) >= self.max_evals:
            return -1, None
        trial, point = len(self.journal.asked), self.strategy.ask()
        if point is not None:
            self.journal.ask(trial, point)
        return trial, point

    def _take(self, row: Row) -> None:
        self.journal.end(row)
        if row.state != "interrupted":
            self.strategy.tell([row])
        self.progress(self.journal, min(len(self.waiting), self.pool.workers))
        rows = self.journal.rows
        last = rows[max(self.before, len(rows) - 2 * _HOPELESS) :]
        many = len(last) >= (2 * _HOPELESS if any(row.state != "failed" for row in rows) else _HOPELESS)
        if many and all(row.state == "failed" for row in last):
            pools.STOP.set()
            raise Hopeless(f"the last {len(last)} trials all failed, this one: {rows[-1].reason}")


def strategy_of(config: SearchConfig, space: Space, journal: Journal) -> Strategy:
    """The strategy, told of every earlier trial."""
    known = list(journal.asked.values())
    first = config.first()
    strategy: Strategy
    match config.strategy:
        case "grid":
            strategy = Grid(space, known)
        case "random":
            strategy = Random(space, known, config.seed, first)
        case "cbo":
            initial = min(2 * len(space) + 1, max(5, config.trials // 4))
            strategy = Bayesian(space, known, config.seed, first, initial)
    strategy.tell(journal.rows)
    return strategy


def open_journal(config: SearchConfig) -> Journal:
    """The journal of the folder, new or to go on with. Raises InputError where it is another search's."""
    if (config.out / SETTINGS).exists():
        if not config.resume:
            raise InputError(f"{config.out}: holds a search already; choose another folder, or --resume it")
        config.check_same(SearchConfig.load(config.out))
    elif others := sorted(path.name for path in config.out.iterdir() if path.name != "lock"):
        raise InputError(f"{config.out}: holds {', '.join(others[:3])}, and no search; choose another folder")
    data = open_set(config.data)
    data.column(config.train_config().aux_names)
    journal = Journal(config.out)
    saved = {"hpcauxvae": hpcauxvae.__version__, "settings": config.to_json(), "data": data.fingerprint}
    if journal.sessions and (then := json.loads((config.out / SETTINGS).read_text()).get("data")) != data.fingerprint:
        raise InputError(f"{config.data}: is not the data set that the search was started on ({then})")
    write_whole(config.out / SETTINGS, json.dumps(saved, indent=2) + "\n")
    journal.repair()
    for session in journal.sessions:
        kill_marked(session["mark"])
    runs = {trial: config.out / "trials" / f"{trial:04}" for trial in journal.running}
    if left := [trial for trial, run in runs.items() if held_elsewhere(run)]:
        for trial in left:
            cancel_steps(trial)
        time.sleep(2 * TERM_SECONDS)  # the minders there need one
        for trial in left:
            (runs[trial] / "lock").unlink(missing_ok=True)
    return journal


def run_session(config: SearchConfig, pool: pools.Pool, mark: str) -> int:
    """One session of a search: until it is done (0) or stopped (75)."""
    lock = RunLock(config.out)
    lock.acquire()
    try:
        journal = open_journal(config)
        space = config.space()
        strategy = strategy_of(config, space, journal)
        plan = Plan(
            out=config.out.absolute(),
            mark=mark,
            fields=config.train_fields(),
            processes=config.processes,
            early_stopping=config.early_stopping,
            trial_minutes=config.trial_minutes,
            deadline=None if config.max_minutes is None else time.time() + 60 * config.max_minutes,
        )
        (plan.out / "trials").mkdir(exist_ok=True)
        journal.session(mark=mark, workers=pool.workers, time=time.time())
        with Progress(config.trials, pool.workers, len(journal.rows)) as progress:
            Search(plan, journal, strategy, pool, progress, config.trials).run()
        report.write(config.out)
        print(progress.summary(journal, config.out))
        if journal.running or pools.STOP.is_set():
            return MORE_TO_DO
        if all(row.state == "failed" for row in journal.rows):
            raise Hopeless(f"all {len(journal.rows)} trials failed, the last one: {journal.rows[-1].reason}")
        return 0
    finally:
        lock.release()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """SIGTERM, SIGINT and SIGUSR1 ask the search to stop: trials are saved, and the journal is whole."""

    def stop(*_: object) -> None:
        if not pools.STOP.is_set() and os.environ.get("PMI_RANK", "0") == "0":
            os.write(2, b"\nstopping: the running trials save and end, which may take a minute\n")
        pools.STOP.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, stop)
    yield


def launch(config: SearchConfig) -> int:
    """Runs the search where it was started: here, on the ranks of MPI, or over a Slurm allocation."""
    mark = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}/"
    launcher = config.launcher
    if launcher == "auto":
        launcher = "mpi" if pools.mpi_is_there() else "slurm" if pools.slurm_is_there() else "local"
    with stop_on_signals(), Minder(mark):
        if launcher == "mpi":
            return _on_ranks(config, mark)
        if launcher == "slurm":
            slots = pools.slurm_slots(config.workers, config.processes, config.device)
        else:
            refuse_singletons(1, "alone")
            slots = pools.local_slots(config.workers, config.processes, config.device)
        with pools.thread_pool(slots) as pool:
            return run_session(config, pool, mark)


def _on_ranks(config: SearchConfig, mark: str) -> int:
    os.environ.setdefault("MPI4PY_FUTURES_BACKOFF", "0.01")  # seconds; ranks that wait would spin without
    from mpi4py import MPI
    from mpi4py.futures import MPICommExecutor

    workers = MPI.COMM_WORLD.size - 1
    if workers < 1:
        raise InputError("mpi: 1 rank; allowed: at least 2, rank 0 searches and runs no trial")
    problem = None
    try:
        pools.RANK_SLOT[:] = [pools.mpi_slot(config.processes, config.device)]
    except InputError as error:  # of one node perhaps; the others would wait for its ranks for ever
        problem = str(error)
    if problems := [text for text in MPI.COMM_WORLD.allgather(problem) if text]:
        if MPI.COMM_WORLD.rank == 0:
            raise InputError(problems[0])
        return 2
    pools.RANK_MARK[:] = [mark]
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        if executor is None:
            return 0
        with pools.Pool(executor, workers, pools.run_on_rank) as pool:
            return run_session(config, pool, mark)


def main(argv: list[str] | None = None) -> int:
    """The command `python -m hpo.search`, with `best` and `report` as its first word for a search that is there."""
    import tyro

    match sys.argv[1:] if argv is None else argv:
        case ["best", *rest]:
            return best.main(rest)
        case ["report", *rest]:
            return report.main(rest)
    config = tyro.cli(
        SearchConfig,
        args=argv,
        prog="python -m hpo.search",
        description="A search for hyperparameters. Afterwards: python -m hpo.search report FOLDER, and best FOLDER.",
        config=(tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff, tyro.conf.UseAppendAction),
    )
    try:
        return launch(config)
    except Hopeless as error:
        print(f"error: {error}; see {config.out}/logs", file=sys.stderr)
        return 2  # with which a job is not requeued


if __name__ == "__main__":
    from hpcauxvae.cli import run

    run(main)
