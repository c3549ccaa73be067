"""The page of a run on this machine alone, its decoder in Python: `hpcauxvae report RUN --serve`.

Who does not know the address, with the token in it, gets nothing: other users of a login node reach its ports, too.
Other pages in the reader's browser get nothing either, by whatever name they call this machine. Shape legend in
types.py.
"""

import getpass
import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.runtime.launchers import find_job
from hpcauxvae.runtime.stop_requests import StopListener
from hpcauxvae.types import InputError

HERE = "127.0.0.1"
_NAMES = (HERE, "localhost")
"""What a browser may call this machine; behind a tunnel the port may be another."""
_LOOK_S = 0.2
"""Seconds between looks for a request to stop."""


class Server(ThreadingHTTPServer):
    """Gives a page, and the image of each code that this sends.

    `GET /TOKEN/` is the page. `POST /TOKEN/decode` takes a code, Z little-endian float32, and answers with the image, C
    x H x W of them in linear data units. All else is refused.
    """

    daemon_threads = True
    timeout = _LOOK_S

    def __init__(self, page: str, decode: Callable[[NDArray], NDArray], latents: int, port: int | None = None) -> None:
        """decode: from codes (N, Z) to images; port: a free one if not given. Raises InputError where it is taken."""
        self.page, self.decode, self.latents = page.encode(), decode, latents
        self.token = secrets.token_urlsafe(24)
        self.at_work = Lock()
        try:
            super().__init__((HERE, port or 0), _Answers)
        except (OSError, OverflowError) as error:
            raise InputError(f"port = {port}: {error}; allowed: one that is free, from 1024 to 65535") from error

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{HERE}:{self.server_port}/{self.token}/"

    def run(self) -> None:
        """Serves until Ctrl-C, SIGTERM or SIGUSR1."""
        with self, StopListener() as asked:
            print(f"{self.address}\n{tunnel(self.server_port)}\nCtrl-C ends it.", flush=True)
            while not asked.reason:
                self.handle_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is none."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # a connection serves many images
    disable_nagle_algorithm = True
    timeout = 600
    server: Server

    def do_GET(self) -> None:
        if self._known("/"):
            self._answer(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if not self._known("/decode"):
            return
        size = 4 * self.server.latents
        given = self.rfile.read(size) if self.headers.get("Content-Length") == str(size) else b""
        z_Z = np.frombuffer(given, "<f4") if len(given) == size else np.full(1, np.nan)
        if not np.isfinite(z_Z).all():
            return self._refuse(HTTPStatus.BAD_REQUEST, f"allowed: {self.server.latents} finite numbers of float32")
        try:
            with self.server.at_work:
                image_CHW = self.server.decode(z_Z[None])[0]
        except RuntimeError as error:  # such as a GPU without memory
            return self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, " ".join(str(error).split()))
        self._answer(HTTPStatus.OK, image_CHW.astype("<f4").tobytes(), "application/octet-stream")

    def _known(self, place: str) -> bool:
        """Whether the request names this machine, the token and this place; else it is refused."""
        name = self.headers.get("Host", "").partition(":")[0]
        token, wanted = self.path[: -len(place)].encode(), f"/{self.server.token}".encode()
        known = name in _NAMES and self.path.endswith(place) and secrets.compare_digest(token, wanted)
        if not known:
            self._refuse(HTTPStatus.FORBIDDEN, "not the address that hpcauxvae report --serve has printed")
        return known

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        self.close_connection = True  # what was sent is not read
        self._answer(status, words.encode(), "text/plain; charset=utf-8")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            *([("Connection", "close")] if self.close_connection else []),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Says nothing: the token stands in each line."""


def tunnel(port: int, env: Mapping[str, str] = os.environ) -> str:
    """How a browser on another machine gets there: through the node that a job of Slurm or PBS was submitted on."""
    here, job = socket.gethostname(), find_job(env).number
    login = env.get("SLURM_SUBMIT_HOST") or env.get("PBS_O_HOST") if job else None
    user = _user()
    through = f"-J {user}{login} " if login and login != here else ""
    where = f"node {here} in job {job}" if job else here
    return f"It runs on {where}. From elsewhere: ssh {through}-L {port}:{HERE}:{port} {user}{here}"


def _user() -> str:
    try:
        return f"{getpass.getuser()}@"
    except (KeyError, OSError):  # of a container that has no names
        return ""
