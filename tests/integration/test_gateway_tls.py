"""A hub that serves its gateway with HTTPS: clients, commands, and a renewed certificate."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest

from tests.support import command, needs
from tests.support.connections import ConnectionFlood
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hub import Hub

pytestmark = pytest.mark.slow

TOKEN: Final = "only-in-5f0c8e2b7d94413aa6b1de3870c952f4"
NOWHERE: Final = {"id": "lobby", "url": "rtsp://127.0.0.1:9/stream1"}


def certify(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate for `name` and its key into the folder."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    words: list[str | Path] = [needs.program("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-nodes"]
    words += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2", "-subj", f"/CN={name}"]
    words += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", cert]
    subprocess.run(words, check=True, capture_output=True)
    return cert, key


def served_certificate(url: str) -> bytes:
    """Return the certificate of a server in the binary form."""
    host, port = url.removeprefix("https://").split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection,
        context.wrap_socket(connection) as secured,
    ):
        assert secured.version() in {"TLSv1.2", "TLSv1.3"}
        return secured.getpeercert(binary_form=True) or b""


@pytest.fixture
def start_secure(tmp_path: Path, start_hub: Callable[..., Hub]) -> Callable[..., Hub]:
    def start(**more: Any) -> Hub:
        cert, key = certify(tmp_path, "hub.example")
        gateway = {"listen": "127.0.0.1:0", "token": TOKEN, "tls": {"cert": str(cert), "key": str(key)}, **more}
        return start_hub([NOWHERE], None, gateway=gateway)

    return start


def test_clients_and_commands_use_https(start_secure: Callable[..., Hub], tmp_path: Path) -> None:
    hub = start_secure()
    url = hub.gateway()
    assert url.startswith("https://")
    trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    trusting.check_hostname = False
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(base_url=url, verify=trusting, headers=headers, timeout=PATIENCE_S) as client:
        assert client.get("/api/v1/cameras").status_code == 200
    with (
        httpx2.Client(base_url=url.replace("https", "http"), headers=headers, timeout=PATIENCE_S) as plain,
        pytest.raises(httpx2.TransportError),
    ):
        plain.get("/api/v1/cameras")
    done = command.run("pause", "lobby", cwd=hub.folder)
    assert done.returncode == 0, done.stderr
    # A command that finds a certificate that it does not trust sends its token nowhere.
    refused = command.run("pause", "lobby", "--url", url, cwd=hub.folder, env={"NVISION_HUB_TOKEN": TOKEN})
    assert refused.returncode == 69, refused.stdout
    assert "cannot connect" in refused.stderr


@pytest.mark.long
def test_a_renewed_certificate_needs_no_restart(start_secure: Callable[..., Hub], tmp_path: Path) -> None:
    hub = start_secure()
    url, pid = hub.gateway(), hub.member_pid("gateway")
    before = served_certificate(url)
    (tmp_path / "new").mkdir()
    cert, key = certify(tmp_path / "new", "hub.example")
    renewed = ssl.PEM_cert_to_DER_cert(cert.read_text())
    assert renewed != before
    cert.replace(tmp_path / "cert.pem")
    hub.wait_until(lambda: "certificate not renewed" in hub.log())
    assert served_certificate(url) == before
    key.replace(tmp_path / "key.pem")
    hub.wait_until(lambda: "certificate renewed" in hub.log())
    assert served_certificate(url) == renewed
    assert hub.member_pid("gateway") == pid


def test_a_key_of_another_certificate_is_an_error(tmp_path: Path, start_secure: Callable[..., Hub]) -> None:
    hub = start_secure()
    other = tmp_path / "other"
    other.mkdir()
    certify(other, "hub.example")
    (other / "key.pem").rename(tmp_path / "key.pem")
    checked = command.run("check", cwd=hub.folder)
    assert checked.returncode == 78
    assert "gateway.tls: the files hold no certificate with its key" in checked.stderr


@pytest.mark.fault
def test_connections_without_a_handshake_are_limited(start_secure: Callable[..., Hub]) -> None:
    hub = start_secure()
    url, pid = hub.gateway(), hub.member_pid("gateway")
    host, port = url.removeprefix("https://").split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with ConnectionFlood(address=(host, int(port)), count=1_030):
        for _ in range(3):
            assert httpx2.get(f"{url}/healthz", verify=context, timeout=PATIENCE_S).status_code == 200
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) < 700
