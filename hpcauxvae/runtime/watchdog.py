"""Which rank is dead or hangs: each tells that it lives, and all end when a rank does not.

A rank that dies or hangs leaves the others waiting in a collective, from which Python cannot take them back. So a
thread of each rank tells a store on rank 0 that the process lives and how far it has come; rank 0 watches all, and all
watch rank 0.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

import torch.distributed as dist
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from hpcauxvae.runtime.collectives import Processes
from hpcauxvae.runtime.launchers import rendezvous
from hpcauxvae.runtime.stop_requests import FAILED

_SILENT_BEATS = 5
"""Beats that a rank may miss once a collective has failed."""


class Watchdog:
    """Inside its `with`, ends this process with exit code 1 when some rank gives no sign for the timeout: says which.

    A rank is silent when its process is dead, stopped or cut off; when all live and none has come further in that time,
    those that are behind the others hang.
    """

    def __init__(self, processes: Processes, timeout_minutes: float, before_exit: Callable[[str], None]) -> None:
        """before_exit: what must be done on this rank before the process ends so abruptly; told why, in words."""
        self.world, self.before_exit = processes.world, before_exit
        self.timeout = 60 * timeout_minutes
        self.interval = min(1.0, self.timeout / 10)
        self.marks = 0
        """How far the main thread has come."""
        self._closing = threading.Event()
        self._in_trouble = False
        self._verdict: str | None = None
        self._answered = time.monotonic()  # when the store last did
        self._store: Store | None = None
        # Two threads, because a store whose process is stopped keeps the thread that asks it waiting for ever.
        self._talker = threading.Thread(target=self._talk, daemon=True, name="watchdog-talk")
        self._judge = threading.Thread(target=self._run, daemon=True, name="watchdog")
        if processes.group is None:
            return
        host = rendezvous(self.world)[0]
        port = [0]
        wait = timedelta(seconds=self.timeout)
        if self.world.rank == 0:
            store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=wait)
            for rank in range(self.world.world_size):
                store.set(str(rank), "0 0")
            port = [store.port]
        dist.broadcast_object_list(port, src=0, group=processes.group, device=processes.device)
        if self.world.rank > 0:
            store = TCPStore(host, port[0], is_master=False, timeout=wait)
        self._store = store

    def __enter__(self) -> Self:
        if self._store is not None:
            self._answered = time.monotonic()
            self._talker.start()
            self._judge.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is None:
            return
        if isinstance(error, RuntimeError):  # perhaps of a collective that has lost a rank: the threads know
            self._in_trouble = True
            self._judge.join((_SILENT_BEATS + 4) * self.interval)
        self._closing.set()
        self._talker.join(self.timeout)
        self._judge.join()
        if error is None:
            dist.barrier()  # the store stays until nobody asks it any more

    def mark(self) -> None:
        """The main thread has come further."""
        self.marks += 1

    def _run(self) -> None:
        while not self._closing.wait(self.interval):
            silence = time.monotonic() - self._answered
            if self._verdict is None and silence > self.timeout:
                self._verdict = f"rank 0 was stopped or is cut off: no answer from it for {silence:.1f} s"
            if self._verdict:
                print(f"error: rank {self.world.rank}: {self._verdict}", file=sys.stderr, flush=True)
                try:
                    self.before_exit(self._verdict)
                finally:
                    os._exit(FAILED)

    def _talk(self) -> None:
        beats, heard = 0, _Heard(range(self.world.world_size) if self.world.rank == 0 else [0])
        while self._verdict is None and not self._closing.wait(self.interval):
            beats += 1
            try:
                self._verdict = self._beat(beats, heard)
                self._answered = time.monotonic()
            except RuntimeError:  # of the store
                if not self._closing.wait(2.0):  # else rank 0 ends just as this rank does
                    self._verdict = "rank 0 is gone"

    def _beat(self, beats: int, heard: "_Heard") -> str | None:
        store = self._store
        assert store is not None
        if self._in_trouble:
            store.set("trouble", "")
        store.set(str(self.world.rank), f"{beats} {self.marks}")
        if store.check(["verdict"]):
            return store.get("verdict").decode()
        heard.listen(store)
        patience = _SILENT_BEATS * self.interval if store.check(["trouble"]) else self.timeout
        verdict = heard.verdict(patience, self.timeout)
        if verdict and self.world.rank == 0:
            store.set("verdict", verdict)
            time.sleep(2 * self.interval)  # the store ends with this process
        return verdict


class _Heard:
    """When each rank was last heard of, and last seen to come further, by this process's clock."""

    def __init__(self, ranks: "range | list[int]") -> None:
        now = time.monotonic()
        self.said = dict.fromkeys(ranks, ("0", "0"))
        self.alive = dict.fromkeys(ranks, now)
        self.moved = dict.fromkeys(ranks, now)

    def listen(self, store: Store) -> None:
        """Notes what each rank has said to the store since: its beats and marks. Raises RuntimeError if it is gone."""
        now = time.monotonic()
        for rank, value in zip(self.said, store.multi_get([str(rank) for rank in self.said]), strict=True):
            beats, marks = value.decode().split()
            if beats != self.said[rank][0]:
                self.alive[rank] = now
            if marks != self.said[rank][1]:
                self.moved[rank] = now
            self.said[rank] = beats, marks

    def verdict(self, patience: float, timeout: float) -> str | None:
        """What is wrong, in words: silence longer than `patience`, or no progress of any rank for `timeout`."""
        now = time.monotonic()
        silent = [rank for rank, at in self.alive.items() if now - at > patience]
        if silent:
            seconds = now - min(self.alive[rank] for rank in silent)
            return f"{_named(silent)} died, was stopped or is cut off: no sign of it for {seconds:.1f} s"
        if len(self.said) > 1 and all(now - at > timeout for at in self.moved.values()):
            behind = min(int(marks) for _, marks in self.said.values())
            late = [rank for rank, (_, marks) in self.said.items() if int(marks) == behind]
            return f"{_named(late)} hangs: no step for {now - max(self.moved.values()):.1f} s"
        return None


def _named(ranks: list[int]) -> str:
    return f"rank {', '.join(map(str, ranks))}"
