"""Training continues without W&B: a server out of reach, a wrong key, what goes away in mid-run."""

import http.server
import json
import threading
import time

import pytest
from faults import fault
from front_doors import TINY

QUIET = ("callbacks.summary=null", "logger=wandb")
BUCKET = {"id": "b", "name": "n", "displayName": "d", "historyLineCount": 0}
PROJECT = {"id": "p", "name": "cgnet", "entity": {"id": "e", "name": "me"}}
ANSWERS = {
    "Viewer": {
        "viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
    },
    "RunResumeStatus": {"model": None},
    "UpsertBucket": {"upsertBucket": {"bucket": BUCKET | {"project": PROJECT}, "inserted": True}},
}


class Server(http.server.ThreadingHTTPServer):
    """As much of W&B's as a run asks for at its start; closes once metrics have come in."""

    def __init__(self, status: int):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.asked = status, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = json.loads(content).get("operationName") if self.path == "/graphql" else self.path
        self.server.asked.append(name)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps({"data": ANSWERS.get(name, {})}).encode())
        if name.endswith("file_stream"):
            threading.Thread(target=self.server.shutdown).start()
            self.server.server_close()

    do_GET = do_PUT = do_POST  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def logged_in(monkeypatch):
    def log_in(address, key=40 * "a"):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", key)
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
        monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "3")

    return log_in


def _trained(doors, *overrides):
    start = time.monotonic()
    outcome = doors("train", *TINY, *QUIET, *overrides, own_process=True)
    assert outcome.code == 0, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.metrics["last"]["epoch"] == 2
    assert time.monotonic() - start < 90
    return outcome


def _went_on_offline(outcome) -> None:
    assert "W&B cannot be used" in outcome.out
    assert "wandb sync" in outcome.out
    assert list(outcome.directory.glob("wandb/offline-run-*/run-*.wandb"))


@pytest.mark.slow
def test_a_key_that_is_none(doors, logged_in):
    logged_in("http://127.0.0.1:9", key="abc")
    outcome = _trained(doors)
    assert "API key must have 40+ characters" in outcome.out
    _went_on_offline(outcome)


@pytest.mark.slow
def test_a_server_out_of_reach(doors, logged_in):
    logged_in("http://127.0.0.1:9")
    outcome = _trained(doors)
    assert "connection refused" in outcome.out
    _went_on_offline(outcome)


@pytest.mark.slow
def test_a_key_that_the_server_refuses(doors, logged_in):
    server = Server(status=401)
    logged_in(server.address)
    _went_on_offline(_trained(doors))
    server.shutdown()


@pytest.mark.slow
def test_a_server_that_goes_away(doors, logged_in):
    server = Server(status=200)
    logged_in(server.address)
    outcome = _trained(doors)
    assert "UpsertBucket" in server.asked
    assert any(name.endswith("file_stream") for name in server.asked)
    assert list(outcome.directory.glob("wandb/run-*/run-*.wandb")), "what was not sent is kept"
    assert "wandb sync --include-online " in outcome.out, "else wandb sync skips it"


@pytest.mark.slow
def test_a_wandb_process_that_is_killed(doors):
    outcome = _trained(doors, "logger.wandb.offline=true", *fault("KillWandb", step=3))
    assert "W&B has failed" in outcome.out
