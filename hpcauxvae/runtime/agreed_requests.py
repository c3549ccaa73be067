"""What the ranks of a run do between two steps on request: save, or save and end before it is finished.

Each rank hears signals for itself (stop_requests.py); here all ranks agree on what was asked.
"""

import time
from types import TracebackType
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from hpcauxvae.runtime.collectives import Processes
from hpcauxvae.runtime.stop_requests import StopListener

AGREE_EVERY = 4
"""Steps between two questions to all ranks. Each answer is read at the next question, so that nobody waits for it: a
request is obeyed after at most 2 * AGREE_EVERY steps."""


class Asked(NamedTuple):
    """What some rank was asked for; the same on all."""

    stop: bool
    save: bool


class Requests(StopListener):
    """Listens for signals inside its `with`, keeps the time limits, and asks the other ranks."""

    def __init__(self, processes: Processes, max_minutes: float | None, checkpoint_minutes: float | None) -> None:
        """The limits count from now: the time until the run stops, and the time between saves."""
        super().__init__()
        self.control = None
        if processes.group is not None:
            self.control = dist.new_group(backend="gloo", timeout=processes.patience)
        self.deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.between_saves = None if checkpoint_minutes is None else 60 * checkpoint_minutes
        self.saved_at = time.monotonic()
        self._pending: tuple[Any, torch.Tensor] | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            self._answer()  # no rank leaves while another still waits for it

    def saved(self) -> None:
        """The time to the next save starts now."""
        self.saved_at = time.monotonic()

    def agreed(self, step: int) -> Asked:
        """What to do before this step of the run; all ranks must ask at every step, and get the same answer."""
        if self.control is None:
            return self._own()
        if step % AGREE_EVERY:
            return Asked(False, False)
        answer = self._answer()
        flags = torch.tensor(self._own(), dtype=torch.int32)
        self._pending = dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.control, async_op=True), flags
        return answer

    def agreed_now(self) -> Asked:
        """The same without delay, for the end of an epoch, where all ranks wait for each other anyway."""
        if self.control is None:
            return self._own()
        earlier = self._answer()
        flags = torch.tensor(self._own(), dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.control)
        return Asked(*(bool(now) or before for now, before in zip(flags, earlier, strict=True)))

    def _own(self) -> Asked:
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline:
            self.reason = self.reason or "time limit"
        return Asked(bool(self.reason), self.between_saves is not None and now - self.saved_at >= self.between_saves)

    def _answer(self) -> Asked:
        if self._pending is None:
            return Asked(False, False)
        work, flags = self._pending
        self._pending = None
        work.wait()
        return Asked(*map(bool, flags))
