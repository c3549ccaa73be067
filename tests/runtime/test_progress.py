"""What is told of a piece of work: a bar on a terminal, lines in a log, nothing where the process does not speak."""

import io
import sys
import time

import pytest

from hpcauxvae.runtime.progress import Progress, time_left


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def work(clock: list[float], **options: bool | float) -> Progress:
    """Goes on from step 4 of 24: two steps in every 10 s, for 100 s, told whenever that is due."""
    with Progress(24, "step", title="epoch 1/2", done=4, **options) as progress:  # type: ignore[arg-type]
        for _ in range(10):
            clock[0] += 10
            progress.advance(2)
            if progress.is_due():
                progress.say("loss 3")
    return progress


def test_a_log_gets_a_line_at_the_interval(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = work(clock, every_s=30)
    assert progress.done == 24 and progress.rate == pytest.approx(0.2)
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "epoch 1/2  step 10/24  loss 3  left 1:10 min",
        "epoch 1/2  step 16/24  loss 3  left 0:40 min",
        "epoch 1/2  step 22/24  loss 3  left 0:10 min",
    ]
    assert said.err == ""


def test_a_terminal_gets_a_bar(clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sys, "stderr", Terminal())
    work(clock, every_s=30)
    assert "epoch 1/2" in sys.stderr.getvalue() and "4/24" in sys.stderr.getvalue()
    assert capsys.readouterr().out == ""


def test_a_process_that_does_not_speak_is_silent(clock, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert not work(clock, speaks=False).is_due()
    assert (terminal.getvalue(), capsys.readouterr().out) == ("", "")


def test_time_left() -> None:
    assert [time_left(seconds) for seconds in (0, 61.4, 3600)] == ["left 0:00 min", "left 1:01 min", "left 60:00 min"]
