"""The search: `python -m hpo.search DATA.h5 --aux radius,g1,g2 --out searches/x --max-evals 40 --workers 2`.

One loop: ask a strategy for a point, hand it to a worker, write down what came of it, tell the strategy. One more trial
than there are workers is handed out, so that a worker never waits while the next point is computed.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import hpcauxvae
from hpcauxvae.data.guides import check_latents, guides_of
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.runtime.children import MINDER_SECONDS, Minder, kill_marked, new_mark
from hpcauxvae.runtime.command_line import parse
from hpcauxvae.runtime.files import write_json
from hpcauxvae.runtime.launchers import mpi_started_several, refuse_singletons, speaks
from hpcauxvae.runtime.lock import RunLock, held_elsewhere
from hpcauxvae.runtime.stop_requests import MORE_TO_DO, StopListener
from hpcauxvae.types import InputError, Interval
from hpo import command, pools
from hpo.logbook import SETTINGS, Logbook, Row
from hpo.pools import Pool
from hpo.problem import Point, Space
from hpo.progress import SearchProgress
from hpo.settings import SearchConfig
from hpo.strategies import Bayesian, Grid, Random, Strategy
from hpo.trials import Setup, cancel_steps

_HOPELESS = 10
"""A search ends when the first so many trials of a session all fail, or twice as many in a row once some trial has
succeeded: a node that can start nothing would use up the search."""


class Hopeless(RuntimeError):
    """Every trial fails."""


class Search:
    """A search in its folder."""

    def __init__(
        self, setup: Setup, logbook: Logbook, strategy: Strategy, pool: Pool, show: Callable[[int], None], trials: int
    ) -> None:
        self.setup, self.logbook, self.strategy, self.pool = setup, logbook, strategy, pool
        self.show, self.trials = show, trials
        self.waiting: dict[Any, int] = {}
        self.unfinished = dict(logbook.running)
        self.before = len(logbook.rows)

    def run(self) -> None:
        """Until all trials ended, the strategy has no point left, a stop is asked for, or the time is up."""
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
        if self.setup.is_over:
            pools.STOP.set()
        while not pools.STOP.is_set() and len(self.waiting) <= self.pool.workers:
            trial, point = self._next()
            if point is None:
                break
            self.waiting[self.pool.submit(self.setup, trial, point)] = trial

    def _next(self) -> tuple[int, Point | None]:
        if self.unfinished:
            trial = min(self.unfinished)
            return trial, self.unfinished.pop(trial)
        if len(self.logbook.asked) >= self.trials:
            return -1, None
        trial, point = len(self.logbook.asked), self.strategy.ask()
        if point is not None:
            self.logbook.ask(trial, point)
        return trial, point

    def _take(self, row: Row) -> None:
        self.logbook.end(row)
        if row.state != "interrupted":
            self.strategy.tell([row])
        self.show(min(len(self.waiting), self.pool.workers))
        rows = self.logbook.rows
        last = rows[max(self.before, len(rows) - 2 * _HOPELESS) :]
        many = len(last) >= (2 * _HOPELESS if any(row.state != "failed" for row in rows) else _HOPELESS)
        if many and all(row.state == "failed" for row in last):
            pools.STOP.set()
            raise Hopeless(f"the last {len(last)} trials all failed, this one: {rows[-1].reason}")


def strategy_of(config: SearchConfig, space: Space, logbook: Logbook) -> Strategy:
    """The strategy, told of every earlier trial."""
    known, first = list(logbook.asked.values()), config.first()
    strategy: Strategy = Grid(space, known) if config.strategy == "grid" else Random(space, known, config.seed, first)
    if config.strategy == "cbo":
        initial = min(2 * len(space) + 1, max(5, config.trials // 4))
        strategy = Bayesian(space, known, config.seed, first, initial)
    strategy.tell(logbook.rows)
    return strategy


def open_logbook(config: SearchConfig) -> Logbook:
    """The logbook of the folder, new or to go on with. Raises InputError where it is another search's."""
    if (config.out / SETTINGS).exists():
        if not config.resume:
            raise InputError(f"{config.out}: holds a search already; choose another folder, or --resume it")
        config.check_same(SearchConfig.load(config.out))
    elif others := sorted(path.name for path in config.out.iterdir() if path.name != "lock"):
        raise InputError(f"{config.out}: holds {', '.join(others[:3])}, and no search; choose another folder")
    data = open_set(config.data)
    run, axis = config.train_config(), config.space().get("latents")
    fewest = run.latents if axis is None else axis.low if isinstance(axis, Interval) else min(axis)
    check_latents(guides_of(data, run.aux_names, run.labels), int(fewest))
    logbook = Logbook(config.out)
    saved = {"hpcauxvae": hpcauxvae.__version__, "settings": config.to_json(), "data": data.fingerprint}
    if logbook.sessions and (then := json.loads((config.out / SETTINGS).read_text()).get("data")) != data.fingerprint:
        raise InputError(f"{config.data}: is not the data set that the search was started on ({then})")
    write_json(config.out / SETTINGS, saved)
    logbook.repair()
    for session in logbook.sessions:
        kill_marked(session["mark"])
    runs = {trial: config.out / "trials" / f"{trial:04}" for trial in logbook.running}
    if left := [trial for trial, run in runs.items() if held_elsewhere(run)]:
        for trial in left:
            cancel_steps(trial)
        time.sleep(2 * MINDER_SECONDS)  # so long may the minders there take
        for trial in left:
            (runs[trial] / "lock").unlink(missing_ok=True)
    return logbook


def run_session(config: SearchConfig, pool: Pool, mark: str) -> int:
    """One session of a search: until it is done (0) or stopped (75)."""
    lock = RunLock(config.out)
    lock.acquire()
    try:
        config = config.decided()
        logbook = open_logbook(config)
        space = config.space()
        strategy = strategy_of(config, space, logbook)
        setup = Setup(
            out=config.out.absolute(),
            mark=mark,
            fields=config.train_fields(),
            processes=config.processes,
            early_stopping=config.early_stopping,
            trial_minutes=config.trial_minutes,
            deadline=None if config.max_minutes is None else time.time() + 60 * config.max_minutes,
        )
        (setup.out / "trials").mkdir(exist_ok=True)
        logbook.session(mark=mark, workers=pool.workers, time=time.time())
        with SearchProgress(logbook, config.trials, pool.workers) as progress:
            Search(setup, logbook, strategy, pool, progress.show, config.trials).run()
        from hpo import report  # matplotlib, which no trial waits for

        report.write(config.out)
        print(progress.summary(config.out))
        if logbook.running or pools.STOP.is_set():
            return MORE_TO_DO
        if all(row.state == "failed" for row in logbook.rows):
            raise Hopeless(f"all {len(logbook.rows)} trials failed, the last one: {logbook.rows[-1].reason}")
        return 0
    finally:
        lock.release()


def stop() -> None:
    """Asks the search to stop: its trials are saved, and its folder is whole."""
    if not pools.STOP.is_set() and speaks():
        os.write(2, b"\nstopping: the running trials save and end, which may take a minute\n")
    pools.STOP.set()


def launch(config: SearchConfig) -> int:
    """Runs the search where it was started: here, on the ranks of MPI, or over a Slurm allocation."""
    mark, launcher = new_mark(), config.launcher
    if launcher == "auto":
        launcher = "mpi" if mpi_started_several() else "slurm" if pools.slurm_is_there() else "local"
    with StopListener(stop, patient=True), Minder(mark):
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
        pools.THIS_RANK[:] = [(pools.mpi_slot(config.processes, config.device), mark)]
    except InputError as error:  # perhaps of this node alone; the other ranks would wait for ever
        problem = str(error)
    if problems := [text for text in MPI.COMM_WORLD.allgather(problem) if text]:
        if MPI.COMM_WORLD.rank == 0:
            raise InputError(problems[0])
        return 2
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        if executor is None:
            return 0
        with Pool(executor, workers, pools.run_on_rank) as pool:
            return run_session(config, pool, mark)


def main(argv: list[str] | None = None) -> int:
    """The command `python -m hpo.search`, with `best` and `report` as its first word for a search that is there."""
    match sys.argv[1:] if argv is None else argv:
        case ["best", *rest]:
            return command.best(rest)
        case ["report", *rest]:
            return command.report(rest)
    about = "A search for hyperparameters. Afterwards: python -m hpo.search report FOLDER, and best FOLDER."
    config = parse(SearchConfig, argv, "python -m hpo.search", quiet=not speaks(), append=True, description=about)
    try:
        return launch(config)
    except Hopeless as error:
        print(f"error: {error}; see {config.out}/logs", file=sys.stderr)
        return 2  # with which a job is not requeued


if __name__ == "__main__":
    from hpcauxvae.cli import run

    run(main)
