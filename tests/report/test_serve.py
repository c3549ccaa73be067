"""The page of a run by `report --serve`: Python draws in a real Chromium, for who was told the address."""

import http.client
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import hpcauxvae
from helpers.browser import asked_for, awaited, chromium, skip_without_chromium
from helpers.explored import explored
from helpers.explorer_page import HOOK, Opened, assert_draws_what_the_door_generates
from helpers.places import ROOT
from helpers.trainings import alone, config
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.report import command
from hpcauxvae.report.serve import Server, tunnel
from hpcauxvae.types import InputError


@pytest.fixture
def server() -> Iterator[Server]:
    """Of a page and a decoder of three latents, which draws their double."""
    with Server("<p>page", lambda z_NZ: 2 * z_NZ[:, None, None], 3) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def answer(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and body; the path with TOKEN for the token."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path.replace("TOKEN", server.token), body, headers)
    found = connection.getresponse()
    assert found.headers["Cache-Control"] == "no-store" and found.headers["Referrer-Policy"] == "no-referrer"
    return found.status, found.read()


CODE = np.array([1, 2, 3], "<f4")


def test_gives_the_page_and_images(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1", "no other machine reaches it"
    assert len(server.token) >= 22 and server.address == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    assert answer(server, "GET", "/TOKEN/") == (200, b"<p>page")
    assert answer(server, "POST", "/TOKEN/decode", CODE.tobytes()) == (200, (2 * CODE).tobytes())
    assert answer(server, "POST", "/TOKEN/decode", CODE.tobytes(), Host="localhost:7")[0] == 200, "behind a tunnel"


@pytest.mark.parametrize(
    ("method", "path", "host"),
    [
        ("GET", "/", "127.0.0.1"),
        ("GET", "/favicon.ico", "127.0.0.1"),
        ("GET", f"/{32 * 'a'}/", "127.0.0.1"),
        ("POST", "/decode", "127.0.0.1"),
        ("POST", "//decode", "127.0.0.1"),
        ("POST", f"/{32 * 'a'}/decode", "127.0.0.1"),
        ("GET", "/TOKEN", "127.0.0.1"),
        ("GET", "/TOKEN/../TOKEN/", "127.0.0.1"),
        ("GET", "/TOKEN/", "evil.example"),
        ("GET", "/TOKEN/", "127.0.0.1.evil.example"),
        ("GET", "/TOKEN/", ""),
        ("POST", "/TOKEN/decode", "evil.example:80"),
    ],
)
def test_without_the_whole_address_there_is_nothing(server: Server, method: str, path: str, host: str) -> None:
    status, body = answer(server, method, path, CODE.tobytes() if method == "POST" else None, Host=host)
    assert status == 403 and server.token.encode() not in body and b"page" not in body


@pytest.mark.parametrize(
    "body", [b"", CODE.tobytes()[:-1], CODE.tobytes() + b"1", np.full(3, np.nan, "<f4").tobytes()], ids=len
)
def test_what_is_no_code_is_refused(server: Server, body: bytes) -> None:
    assert answer(server, "POST", "/TOKEN/decode", body) == (400, b"allowed: 3 finite numbers of float32")
    assert answer(server, "POST", "/TOKEN/decode", CODE.tobytes())[0] == 200


def test_a_port_that_is_taken(server: Server) -> None:
    with pytest.raises(InputError, match=f"port = {server.server_port}: .*; allowed: one that is free"):
        Server("", lambda z_NZ: z_NZ, 3, server.server_port)
    with pytest.raises(InputError, match=r"port = 70000: .*; allowed: one that is free"):
        Server("", lambda z_NZ: z_NZ, 3, 70000)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, r"It runs on HERE\. From elsewhere: ssh -L 7:127\.0\.0\.1:7 (\S+@)?HERE"),
        ({"SLURM_SUBMIT_HOST": "login1"}, r"It runs on HERE\. From elsewhere: ssh -L 7\S+ (\S+@)?HERE"),
        ({"SLURM_JOB_ID": "5", "SLURM_SUBMIT_HOST": "login1"}, r"on node HERE in job 5.*-J (\S+@)?login1 -L 7:\S+ .*"),
        ({"PBS_JOBID": "5.pbs", "PBS_O_HOST": "login2"}, r"on node HERE in job 5\.pbs.*-J (\S+@)?login2 -L 7:\S+ .*"),
        ({"SLURM_JOB_ID": "5", "SLURM_SUBMIT_HOST": "HERE"}, r"on node HERE in job 5.*ssh -L 7:\S+ (\S+@)?HERE"),
    ],
)  # fmt: skip
def test_the_way_from_elsewhere(env: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "HERE")
    assert re.fullmatch(f".*{words}", tunnel(7, env))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "8000"], "port = 8000; allowed: with --serve"),
        (["--serve", "--no-explorer"], "--serve; allowed: with one run"),
        (["--serve", "--out", "x.html"], "--serve; allowed: with one run, and without --out"),
        (["OTHER", "--serve"], "--serve; allowed: with one run"),
        (["--serve", "--data", "gone.h5"], "gone.h5: no such file"),
    ],
)
def test_what_cannot_be_served(trained_run: Path, words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        command.report([str(trained_run), *(word.replace("OTHER", str(trained_run)) for word in words)])


def test_runs_whose_factors_cannot_be_moved(blobs_file: Path, trained_run: Path, tmp_path: Path, monkeypatch) -> None:
    """Of a model without guided latents, and of somebody's own whose encoder sees labels."""
    assert alone(config(blobs_file, tmp_path / "beta", model="beta-vae", aux="", epochs=1, network="mlp")) == 0
    with pytest.raises(InputError, match="no guided latents"):
        command.report([str(tmp_path / "beta"), "--serve"])
    monkeypatch.setattr("hpcauxvae.models.aux_vae.AuxVAE.SEES_LABELS", True)
    with pytest.raises(InputError, match="needs labels"):
        command.report([str(trained_run), "--serve"])


@contextmanager
def serving(run: Path, request: signal.Signals) -> Iterator[str]:
    """The address that the command prints; it ends by this signal, with exit code 0 and without a word."""
    words = [sys.executable, "-m", "hpcauxvae", "report", str(run), "--serve", "--device", "cpu"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        address, way, end = (process.stdout.readline().strip() for _ in range(3))
        assert way.startswith("It runs on ") and end == "Ctrl-C ends it."
        yield address
        process.send_signal(request)
        assert process.communicate(timeout=30) == ("", "") and process.returncode == 0
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.processes
def test_draws_what_the_door_generates(once: Callable, tmp_path: Path) -> None:
    """From Python, in a browser that asks nobody else; after the end it says that nobody answers."""
    skip_without_chromium()
    folder = once("explored-guides", lambda folder: explored("guides", folder))
    run = hpcauxvae.load(folder / "run", device="cpu")
    with chromium(tmp_path) as chrome:
        with serving(folder / "run", signal.SIGTERM) as address:
            chrome.get(address)
            awaited(chrome, f"{HOOK}.ready")
            assert_draws_what_the_door_generates(Opened(chrome, run, open_set(folder / "data.h5"), tmp_path))
            assert [entry["message"] for entry in chrome.get_log("browser")] == []
            asked = {one for one in asked_for(chrome) if not one.startswith(("data:", "blob:"))}
            assert asked == {address, f"{address}decode"}
        with pytest.raises(AssertionError, match="does not answer"):
            awaited(chrome, f"{HOOK}.start(1)")
        warning = chrome.execute_script("return document.querySelector('#explorer .warning').textContent")
        assert warning == "Not drawn: hpcauxvae report --serve does not answer; has it ended?"


@pytest.mark.slow
@pytest.mark.processes
def test_ends_at_ctrl_c(trained_run: Path) -> None:
    with serving(trained_run, signal.SIGINT) as address:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", address)
