"""The recipes of docs/security.md: nginx and Caddy, with the configuration on the page, in front of a real hub."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from ruamel.yaml import YAML
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.support import command, needs
from tests.support.hub import write
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.command import Running

pytestmark = pytest.mark.slow

PAGE: Final = Path(__file__).parents[2] / "docs" / "security.md"
HOST: Final = "hub.example.com"
UPSTREAM: Final = "127.0.0.1:8080"
TOKEN: Final = "5f0c8e2b7d94413aa6b1de3870c952f460303ae22b998861"
FORGED: Final = {"X-Forwarded-User": "mallory", "X-Forwarded-Role": "admin", "X-Forwarded-For": "10.9.9.9"}
CLIENT: Final = "127.0.0.2"
ATTEMPTS: Final = 5


def recipe(language: str) -> str:
    """Return the first block of the page in this language."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def replaced(text: str, **values: str) -> str:
    """Replace each key, which must occur in the text."""
    for old, new in values.items():
        assert old in text
        text = text.replace(old, new)
    return text


@dataclass(frozen=True, kw_only=True)
class Certificate:
    certificate: Path
    key: Path


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    made = Certificate(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    words = [needs.program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    subprocess.run([*words, "-keyout", made.key, "-out", made.certificate], check=True, capture_output=True)
    return made


@pytest.fixture
def hub(tmp_path: Path, start_command: Callable[..., Running]) -> tuple[Running, str]:
    """Start a hub with the page's configuration on a free port. Return it with the address of its gateway."""
    gateway: dict[str, Any] = YAML(typ="safe").load(recipe("yaml"))["gateway"]
    gateway["listen"] = "127.0.0.1:0"
    # The gateway accepts users of the proxy here, so that the test fails if a recipe keeps the headers of clients.
    assert gateway["proxy"].pop("user_header") is None
    gateway["tokens"]["operator"]["token"] = TOKEN
    write(tmp_path, [{"id": "lobby", "url": "rtsp://127.0.0.1:9/stream1"}], None, gateway=gateway)
    running = start_command("start", cwd=tmp_path)
    running.wait_for(lambda: re.search(r"gateway listening at \S+\n", running.err))
    return running, re.findall(r"gateway listening at http://(\S+)", running.err)[-1].rstrip("/")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def start_nginx(folder: Path, upstream: str, port: int, made: Certificate) -> list[str | Path]:
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/hub/cert.pem": str(made.certificate),
        "/etc/ssl/hub/key.pem": str(made.key),
        UPSTREAM: upstream,
    }
    folders = "\n".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders}\n{replaced(recipe('nginx'), **changes)} }}\n",
        encoding="utf-8",
    )
    return [needs.program("nginx", "nginx"), "-c", folder / "nginx.conf", "-e", "stderr"]


def start_caddy(folder: Path, upstream: str, port: int, made: Certificate) -> list[str | Path]:
    # Caddy would obtain the certificate from the internet.
    site = f"https://{HOST}:{port} {{\n\tbind 127.0.0.1\n\ttls {made.certificate} {made.key}"
    text = replaced(recipe("caddyfile"), **{f"{HOST} {{": site, UPSTREAM: upstream})
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(options + text, encoding="utf-8")
    words = [needs.program("caddy", "caddy"), "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]
    return ["env", f"HOME={folder}", f"XDG_DATA_HOME={folder}", *map(str, words)]


PROXIES: Final = {"nginx": start_nginx, "caddy": start_caddy}


def is_listening(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the proxy accepts connections. Return False if it has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process.poll() is None
        assert time.monotonic() < deadline, "the proxy does not listen"
        time.sleep(0.05)
    return False


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.peer("Reverse proxy", name, f"debian:{name}")) for name in PROXIES]
)
def proxy(
    request: pytest.FixtureRequest, tmp_path: Path, hub: tuple[Running, str], certificate: Certificate
) -> Iterator[int]:
    """Start the proxy and return its port. If another program takes the free port first, use another one."""
    log = tmp_path / "proxy.log"
    for _ in range(ATTEMPTS):
        port = free_port()
        words = PROXIES[request.param](tmp_path, hub[1], port, certificate)
        with log.open("wb") as output:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            if is_listening(process, port):
                yield port
                return
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    pytest.fail(log.read_text(errors="replace"))


def requests_pass(port: int, context: ssl.SSLContext) -> None:
    transport = httpx2.HTTPTransport(verify=context, local_address=CLIENT)
    bearer, extensions = {"authorization": f"Bearer {TOKEN}"}, {"sni_hostname": HOST}
    address = f"https://127.0.0.1:{port}"
    with httpx2.Client(base_url=address, transport=transport, headers={"host": HOST}, timeout=PATIENCE_S) as client:

        def send(path: str, method: str = "GET", **headers: str) -> httpx2.Response:
            return client.request(method, path, headers=headers, extensions=extensions)

        page = send("/")
        assert (page.status_code, "<title>" in page.text) == (200, True)
        assert send("/api/v1/cameras").status_code == 401
        assert send("/api/v1/cameras", authorization="Bearer wrong").status_code == 401
        assert send("/api/v1/cameras", **FORGED).status_code == 401
        assert send("/api/v1/cameras", **bearer).json()["cameras"][0]["id"] == "lobby"
        assert send("/api/v1/session", **bearer, **FORGED).json()["name"] == "operator"
        pause = "/api/v1/cameras/lobby/pause"
        assert send(pause, "POST", **bearer, origin="https://example.com").status_code == 403
        assert send(pause, "POST", **bearer, origin=f"https://{HOST}").status_code == 202


def live_view(port: int, context: ssl.SSLContext, token: str) -> dict[str, Any]:
    """Return the first message of the live view, which is the only one if the token is wrong."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S, source_address=(CLIENT, 0))
    url, origin = f"wss://{HOST}/api/v1/live", Origin(f"https://{HOST}")
    with connect(url, sock=connection, ssl=context, server_hostname=HOST, origin=origin, proxy=None) as viewer:
        viewer.send(json.dumps({"token": token, "watch": ["lobby"]}))
        message: dict[str, Any] = json.loads(viewer.recv(PATIENCE_S))
    return message


def test_a_recipe_serves_the_page_and_the_live_view(
    hub: tuple[Running, str], proxy: int, certificate: Certificate, tmp_path: Path
) -> None:
    context = ssl.create_default_context(cafile=str(certificate.certificate))
    requests_pass(proxy, context)
    assert live_view(proxy, context, TOKEN)["kind"] != "error"
    assert live_view(proxy, context, "wrong")["kind"] == "error"
    running, _ = hub
    running.process.terminate()
    assert running.wait() == 0
    audit = command.run("audit", "--json", "-n", "1000", cwd=tmp_path)
    entries = [json.loads(line) for line in audit.stdout.splitlines()]
    assert {entry.get("address") for entry in entries} == {CLIENT}  # the gateway sees the client behind the proxy
    assert {entry["action"] for entry in entries if entry.get("actor") == "operator"} >= {"camera_pause", "live_view"}
    assert "mallory" not in audit.stdout


def test_the_recipe_for_traefik_is_yaml_for_the_same_gateway() -> None:
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (traefik,) = (block for block in found if block.startswith("http:"))
    http = YAML(typ="safe").load(traefik)["http"]
    assert http["routers"]["hub"]["rule"] == f"Host(`{HOST}`)"
    assert http["services"]["hub"]["loadBalancer"]["servers"] == [{"url": f"http://{UPSTREAM}"}]
    removed = http["middlewares"]["without-identity"]["headers"]["customRequestHeaders"]
    assert removed == {"X-Forwarded-User": "", "X-Forwarded-Role": ""}
    assert http["routers"]["hub"]["middlewares"] == ["without-identity"]
