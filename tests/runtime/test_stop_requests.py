"""The signals by which a process is asked to stop."""

import signal
import subprocess
import sys
import threading

import pytest

from hpcauxvae.runtime import stop_requests
from hpcauxvae.runtime.stop_requests import StopListener


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_heard_once_and_the_handlers_from_before_come_back(number: signal.Signals) -> None:
    before, calls = signal.getsignal(number), list[str]()
    with StopListener(lambda: calls.append("asked")) as listener:
        assert listener.reason == ""
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert (listener.reason, calls) == (number.name, ["asked"])
    assert signal.getsignal(number) is before


def test_a_second_press_of_ctrl_c_ends_and_an_echo_of_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopListener() as listener:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # as torchrun passes it on
        monkeypatch.setattr(stop_requests, "_SAME_PRESS_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert listener.reason == "SIGINT"


def test_a_patient_listener_takes_every_press_as_the_same_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_requests, "_SAME_PRESS_S", 0.0)
    calls = list[str]()
    with StopListener(lambda: calls.append("asked"), patient=True) as listener:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
    assert (listener.reason, calls) == ("SIGINT", ["asked"])


def test_outside_the_main_thread_nothing_is_set() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def listen() -> None:
        with StopListener():
            assert signal.getsignal(signal.SIGTERM) is before

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()


@pytest.mark.processes
def test_listening_needs_no_torch() -> None:
    program = "import sys, hpcauxvae.runtime.stop_requests; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
