"""Attacks on the access to a running hub: guessed tokens, weak tokens, forged headers, and requests above a role."""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
import redis
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.support import asyncapi, command
from tests.support.hub import broker_url, write
from tests.support.hubs import wait_for
from tests.support.patience import PATIENCE_S
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.command import Running

pytestmark = [pytest.mark.fault, pytest.mark.long]

NOWHERE: Final = {"id": "lobby", "url": "rtsp://127.0.0.1:9/stream1"}
ADMIN: Final = "CanaryAdmin5f0c8e2b7d94413aa6b1de3870c952f4"
CONTROL: Final = "CanaryControl60303ae22b998861bce3b28f33eec1be"
VIEW: Final = "CanaryView9f86d081884c7d659a2feaa0c55ad015"
METRICS: Final = "CanaryMetrics1c8bfe8f801d79745c4631d09fff36c8"
TOKENS: Final = {"ops": ("control", CONTROL), "wall": ("view", VIEW), "prometheus": ("metrics", METRICS)}
GATEWAY: Final[dict[str, Any]] = {
    "listen": "127.0.0.1:0",
    "token": ADMIN,
    "tokens": {name: {"role": role, "token": token} for name, (role, token) in TOKENS.items()},
}
WRONG_TOKENS: Final = 2_000
# One request per kind of route: method, path, body, and the tokens that may send it.
ROUTES: Final[tuple[tuple[str, str, dict[str, Any] | None, set[str]], ...]] = (
    ("GET", "/metrics", None, {METRICS, VIEW, CONTROL, ADMIN}),
    ("GET", "/api/v1/hub", None, {VIEW, CONTROL, ADMIN}),
    ("GET", "/api/v1/cameras", None, {VIEW, CONTROL, ADMIN}),
    ("GET", "/api/v1/cameras/lobby", None, {VIEW, CONTROL, ADMIN}),
    ("GET", "/api/v1/cameras/lobby/history", None, {VIEW, CONTROL, ADMIN}),
    ("GET", "/api/v1/usage", None, {VIEW, CONTROL, ADMIN}),
    ("GET", "/api/v1/usage.csv", None, {VIEW, CONTROL, ADMIN}),
    ("GET", "/api/v1/webhooks/dead-letters", None, {VIEW, CONTROL, ADMIN}),
    ("GET", "/api/openapi.json", None, {VIEW, CONTROL, ADMIN}),
    ("GET", "/api/v1/cameras/lobby/tuning", None, {CONTROL, ADMIN}),
    ("POST", "/api/v1/cameras/lobby/pause", None, {CONTROL, ADMIN}),
    ("PATCH", "/api/v1/cameras/lobby", {"fps": 2}, {CONTROL, ADMIN}),
    ("POST", "/api/v1/cameras/lobby/resume", None, {CONTROL, ADMIN}),
    ("POST", "/api/v1/cameras/lobby/restart", None, {CONTROL, ADMIN}),
    ("POST", "/api/v1/webhooks/none/test", None, {ADMIN}),
    ("POST", "/api/v1/webhooks/replay", {"webhook": "none", "dead": True}, {ADMIN}),
    ("DELETE", "/api/v1/cameras/none", None, {ADMIN}),
    ("POST", "/api/v1/cameras", {"id": "gate", "url": "demo://street"}, {ADMIN}),
    ("PUT", "/api/v1/not-yet-known", None, {ADMIN}),
)


class Site:
    """A running hub in one folder."""

    def __init__(self, folder: Path, running: Running) -> None:
        self.folder = folder
        self.running = running
        running.wait_for(lambda: re.search(r"gateway listening at \S+\n", running.err))
        self.url = re.findall(r"gateway listening at (\S+)", running.err)[-1]

    @contextmanager
    def client(self, token: str | None = None, source: str = "127.0.0.1", **headers: str) -> Iterator[httpx2.Client]:
        """Return a client that connects from the address `source`."""
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        transport = httpx2.HTTPTransport(local_address=source)
        with httpx2.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S, transport=transport) as client:
            yield client

    def command(self, *arguments: str, code: int = 0) -> str:
        done = command.run(*arguments, cwd=self.folder)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    def audit(self) -> list[dict[str, Any]]:
        """Stop the hub, which writes the last entries, and return the audit log."""
        self.stop()
        return [json.loads(line) for line in self.command("audit", "--json", "-n", "10000").splitlines()]

    def stop(self) -> None:
        if self.running.process.poll() is None:
            self.running.process.terminate()
        assert self.running.wait() == 0


@pytest.fixture
def start_site(tmp_path: Path, start_command: Callable[..., Running]) -> Callable[..., Site]:
    """Start a hub with an unreachable camera and these settings of `gateway`."""

    def start(**gateway: Any) -> Site:
        write(tmp_path, [NOWHERE], None, gateway={"listen": "127.0.0.1:0", **gateway})
        return Site(tmp_path, start_command("start", cwd=tmp_path))

    return start


def files_with(folder: Path, text: str) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_2000_wrong_tokens_are_throttled_and_audited(start_site: Callable[..., Site]) -> None:
    site = start_site(**GATEWAY)
    with site.client() as attacker, site.client(ADMIN) as same, site.client(VIEW, source="127.0.0.2") as elsewhere:
        seen = Counter[int]()
        for number in range(WRONG_TOKENS):
            headers = {"authorization": f"Bearer CanaryGuess{number:028d}"}
            response = attacker.get("/api/v1/cameras", headers=headers)
            seen[response.status_code] += 1
            problem = response.json()
            if response.status_code == 429:
                assert problem["code"] == "too_many_failures"
                assert 1 <= int(response.headers["retry-after"]) <= 60
            else:
                assert problem["code"] == "token_invalid"
            if number % 500 == 0:
                assert same.get("/api/v1/cameras").status_code == 200
                assert elsewhere.get("/api/v1/cameras").status_code == 200
    assert set(seen) == {401, 429}
    assert seen[429] > WRONG_TOKENS / 2, seen
    log = site.audit()
    entries = [entry for entry in log if entry.get("code") in {"token_invalid", "too_many_failures"}]
    rest = sum(entry["suppressed"] for entry in log if entry["action"] == "refused_tries")
    assert entries, "an attack leaves entries"
    assert {entry["code"] for entry in entries} == {"token_invalid", "too_many_failures"}
    assert {entry["address"] for entry in entries} == {"127.0.0.1"}
    assert all(entry["outcome"] == "refused" for entry in entries)
    assert len(entries) < WRONG_TOKENS / 50, "the audit log counts repeated tries instead of repeating them"
    assert sum(1 + entry.get("suppressed", 0) for entry in entries) + rest == WRONG_TOKENS
    lines = [line for line in site.running.err.splitlines() if "access_refused" in line or "wrong token from" in line]
    assert 1 <= len(lines) < WRONG_TOKENS / 50, "the log does not repeat each try"
    assert not re.findall("Canary[A-Z]\\w+", site.running.err)
    assert files_with(site.folder / "state", "Canary") == []
    measured(
        63,
        "guessed tokens",
        injected=f"{WRONG_TOKENS:,} requests with wrong tokens from one address",
        target="throttled and audited; correct tokens work throughout",
        measured=f"401 ({seen[401]}), 429 ({seen[429]}); {len(entries)} audit entries account for all; correct tokens "
        "200, also from the same address",
    )


def test_each_role_may_do_its_own_work_only(start_site: Callable[..., Site]) -> None:
    site = start_site(**GATEWAY)
    names = {token: (name, role) for name, (role, token) in TOKENS.items()}
    with ExitStack() as stack:
        clients = {token: stack.enter_context(site.client(token)) for token in (METRICS, VIEW, CONTROL, ADMIN)}
        anonymous = stack.enter_context(site.client())
        for method, path, body, allowed in ROUTES:
            answer = anonymous.request(method, path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (401, "token_required"), path
            assert answer.headers["content-type"] == "application/problem+json"
            for token, client in clients.items():
                answer = client.request(method, path, json=body)
                if token in allowed:
                    assert answer.status_code not in {401, 403, 429, 500}, (path, answer.text)
                    continue
                problem = answer.json()
                assert (problem["status"], problem["code"]) == (403, "role_too_low"), (path, answer.text)
                name, role = names[token]
                assert name in problem["detail"]
                assert f"the role {role}" in problem["detail"]
        # The router ignores an encoded line feed at the end of a path.
        answer = clients[VIEW].get("/api/v1/cameras/lobby/tuning%0A")
        assert (answer.status_code, answer.json()["code"]) == (403, "role_too_low")
        sessions = {token: client.get("/api/v1/session").json() for token, client in clients.items()}
        document = clients[VIEW].get("/api/openapi.json").json()
    assert sessions[CONTROL] == {"name": "ops", "role": "control", "kind": "token"}
    assert sessions[ADMIN] == {"name": "gateway.token", "role": "admin", "kind": "token"}
    pause = document["paths"]["/api/v1/cameras/{camera_id}/pause"]["post"]
    assert pause["security"] == [{"token": ["control"]}, {}]
    assert pause["x-required-role"] == "control"
    assert {"401", "403", "429"} <= pause["responses"].keys()
    entries = site.audit()
    done = {(entry["action"], entry["actor"]) for entry in entries if entry["outcome"] == "done"}
    assert ("camera_pause", "ops") in done
    assert ("camera_add", "gateway.token") in done
    (added,) = (entry for entry in entries if entry["action"] == "camera_add" and entry["outcome"] == "done")
    assert (added["camera"], added["address"], added["status"], added["role"]) == ("gate", "127.0.0.1", 201, "admin")
    changed = [entry["values"] for entry in entries if entry["action"] == "camera_set" and entry["outcome"] == "done"]
    assert changed == [{"fps": 2}, {"fps": 2}]
    assert any(entry["outcome"] == "refused" and entry.get("code") == "role_too_low" for entry in entries)
    assert files_with(site.folder / "state", "Canary") == []
    measured(
        64,
        "requests above a role",
        injected=f"{len(ROUTES)} routes, each without a token and with one of each role",
        target="401 without a token, 403 below the required role, audited",
        measured="401 and 403 as required; changes and refusals are in the audit log",
    )


def test_created_tokens_work_and_revoked_ones_do_not(start_site: Callable[..., Site]) -> None:
    """The running hub needs no restart, keeps no token in plain text, and closes the revoked token's live view."""
    site = start_site()
    before = (site.folder / "cameras.yaml").read_bytes()
    with site.client() as client:
        assert client.get("/api/v1/cameras").status_code == 200, "this machine needs no token as long as there is none"
    token = site.command("token", "create", "wall", "--role", "view").strip()
    other = site.command("token", "create", "night", "--role", "control").strip()
    assert "exists" in site.command("token", "create", "wall", "--role", "admin", code=1)
    assert "0600" in oct(stat.S_IMODE((site.folder / "state" / "tokens.json").stat().st_mode)).replace("0o", "0")
    assert files_with(site.folder / "state", token) == []
    with site.client() as anonymous, site.client(token) as wall, site.client(other) as night:
        assert anonymous.get("/api/v1/cameras").status_code == 401
        assert wall.get("/api/v1/cameras").status_code == 200
        assert wall.post("/api/v1/cameras/lobby/pause").status_code == 403
        with connect(site.url.replace("http", "ws") + "/api/v1/live", proxy=None) as viewer:
            viewer.send(json.dumps({"token": token}))
            first = json.loads(viewer.recv(PATIENCE_S))
            assert first["session"] == {"name": "wall", "role": "view", "kind": "token"}
            assert site.command("pause", "lobby") == "lobby is paused\n", "commands on this machine need no token"
            assert site.command("token", "revoke", "wall") == "wall is revoked\n"
            with suppress(ConnectionClosedError):
                for _ in viewer:
                    pass
            assert viewer.close_code == 4401
        assert wall.get("/api/v1/cameras").status_code == 401
        assert night.post("/api/v1/cameras/lobby/resume").status_code == 202
    listed = json.loads(site.command("token", "list", "--json"))["tokens"]
    assert [(each["name"], each["role"]) for each in listed] == [("night", "control")]
    assert (site.folder / "cameras.yaml").read_bytes() == before

    def copied() -> list[dict[str, Any]]:
        with redis.Redis.from_url(broker_url(site.folder / "state")) as broker:
            return [json.loads(fields[b"entry"]) for _, fields in broker.xrange("nvision:audit")]

    # The gateway copies an entry to Redis after it has written the entry to the file.
    wait_for(lambda: any(entry["action"] == "live_view" and entry["actor"] == "wall" for entry in copied()))
    for entry in copied():
        asyncapi.check("auditEntry", entry)
    entries = site.audit()
    actions = [(entry["action"], entry.get("actor"), entry.get("token")) for entry in entries]
    assert [token for action, _, token in actions if action == "token_create"] == ["wall", "night"]
    assert [token for action, _, token in actions if action == "token_revoke"] == ["wall"]
    paused = [(entry["kind"], entry["address"]) for entry in entries if entry["action"] == "camera_pause"]
    assert ("user", f"uid {os.geteuid()}") in paused
    assert "0600" in oct(stat.S_IMODE((site.folder / "state" / "audit.jsonl").stat().st_mode)).replace("0o", "0")
    assert "camera_resume lobby" in site.command("audit")


def test_proxy_headers_count_only_from_the_proxy(start_site: Callable[..., Site]) -> None:
    site = start_site(proxy={"addresses": ["127.0.0.2"], "roles": {"guards": "control"}}, token=ADMIN)
    with site.client() as forger, site.client(source="127.0.0.2") as proxy:
        forged = {"x-forwarded-user": "eve", "x-forwarded-role": "admin"}
        assert forger.get("/api/v1/cameras", headers=forged).status_code == 401
        assert forger.get("/api/v1/session", headers={**forged, "authorization": f"Bearer {ADMIN}"}).json() == {
            "name": "gateway.token",
            "role": "admin",
            "kind": "token",
        }
        assert proxy.get("/api/v1/cameras").status_code == 401
        guard = {
            "x-forwarded-user": "al\x1b[31mice",
            "x-forwarded-role": "staff, guards",
            "x-forwarded-for": "10.9.8.7",
        }
        assert proxy.get("/api/v1/session", headers=guard).json()["role"] == "control"
        assert proxy.post("/api/v1/cameras/lobby/pause", headers=guard).status_code == 202
        assert proxy.delete("/api/v1/cameras/lobby", headers=guard).status_code == 403
        outsider = {"x-forwarded-user": "bob", "x-forwarded-role": "staff"}
        assert proxy.get("/metrics", headers=outsider).status_code == 403
        twice = [("x-forwarded-user", "alice"), ("x-forwarded-user", "eve"), ("x-forwarded-role", "guards")]
        assert proxy.get("/api/v1/cameras", headers=twice).status_code == 401
        foreign = {**guard, "origin": "http://evil.example"}
        assert proxy.post("/api/v1/cameras/lobby/resume", headers=foreign).status_code == 403
    entries = site.audit()
    (paused,) = (entry for entry in entries if entry["action"] == "camera_pause" and entry["outcome"] == "done")
    assert (paused["actor"], paused["kind"], paused["address"]) == ("al?[31mice", "proxy", "10.9.8.7")
    assert "\x1b" not in (site.folder / "state" / "audit.jsonl").read_text()
    measured(
        65,
        "forged headers of a proxy",
        injected="X-Forwarded-User and X-Forwarded-Role from another address; twice in one request; foreign Origin",
        target="only the declared proxy identifies users",
        measured="401, and 403 for the foreign Origin",
    )


def test_commands_need_no_token_if_a_proxy_authenticates_all_users(start_site: Callable[..., Site]) -> None:
    site = start_site(proxy={"addresses": ["127.0.0.2"]})
    with site.client() as anonymous:
        assert anonymous.get("/api/v1/cameras").status_code == 401
    assert site.command("pause", "lobby") == "lobby is paused\n"


@pytest.mark.parametrize(
    ("gateway", "code"),
    [
        ({"token": "x"}, "invalid_value"),
        ({"token": "changeme" * 8}, "invalid_value"),
        ({"tokens": {"ops": {"role": "admin", "token": "0123456789abcdef" * 2}}}, "invalid_value"),
        ({"listen": "0.0.0.0:0"}, "token_required"),
        ({"listen": "0.0.0.0:0", "insecure": True}, "token_required"),
        ({"listen": "0.0.0.0:0", "token": ADMIN}, "tls_required"),
        ({"token": ADMIN, "tls": {"cert": "missing.pem", "key": "missing.pem"}}, "certificate_invalid"),
    ],
)
def test_an_unsafe_gateway_does_not_start(tmp_path: Path, gateway: dict[str, Any], code: str) -> None:
    write(tmp_path, [NOWHERE], None, gateway={"listen": "127.0.0.1:0", **gateway})
    checked = command.run("check", "--json", cwd=tmp_path)
    assert checked.returncode == 78, checked.stdout
    assert code in {problem["code"] for problem in json.loads(checked.stdout)["problems"]}
    started = command.run("start", cwd=tmp_path)
    assert started.returncode == 78
    assert "gateway" in started.stderr
    measured(
        66,
        "unsafe gateway",
        injected=f"cameras.yaml with `gateway` keys {', '.join(gateway)}: {code}",
        target="the hub does not start",
        measured="exit code 78; `check` names the key and the fix",
    )


def test_an_insecure_gateway_is_only_a_warning(tmp_path: Path) -> None:
    gateway = {"listen": "0.0.0.0:0", "token": ADMIN, "insecure": True}
    write(tmp_path, [NOWHERE], None, gateway=gateway)
    checked = command.run("check", "--json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert any("gateway.insecure" in warning for warning in json.loads(checked.stdout)["warnings"])
