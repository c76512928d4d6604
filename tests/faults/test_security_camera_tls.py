"""Attackers between the hub and cameras with TLS: no request, and so no password, reaches an unidentified peer."""

from __future__ import annotations

import itertools
import json
import os
import signal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from tests.support import clips, command
from tests.support.certificates import Authority
from tests.support.hub import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.certificates import ServerCertificate
    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera
    from tests.support.tls_front import TlsFront

pytestmark = [pytest.mark.fault, pytest.mark.long]

CLIP: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
LOGIN: Final = {"user": "viewer", "password": "canary", "auth": "basic"}
PATHS: Final = {"rtsps": "/cam", "https": "/stream.mjpg", "snapshot+https": "/snapshot.jpg"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "authority"
    folder.mkdir()
    return Authority(folder=folder)


@pytest.fixture
def cameras(gst_camera: Callable[..., GstCamera], http_camera: Callable[..., HttpCamera]) -> dict[str, int]:
    """The port of a plain camera for each scheme, which asks for the password with Basic."""
    http = http_camera(**LOGIN).port
    return {"rtsps": gst_camera(CLIP, **LOGIN).port, "https": http, "snapshot+https": http}


def entry(name: str, scheme: str, host: str, port: int, **settings: Any) -> dict[str, Any]:
    url = f"{scheme}://{host}:{port}{PATHS[scheme]}"
    return {"id": name, "url": url, "username": "viewer", "password": "canary", "stall_timeout": 5, **settings}


class Case(NamedTuple):
    """A camera's certificate, host and settings, and words of its error; None if the camera streams."""

    certificate: str | None
    host: str = "localhost"
    tls: str | None = None
    error: str | None = None


CASES: Final = {
    "good": Case("good"),
    "other-name": Case("other name", error="certificate is not valid for 'localhost'"),
    "expired": Case("expired", error="certificate has expired"),
    "self-signed": Case("self-signed", error="self-signed certificate"),
    "pinned": Case("self-signed", tls="self-signed"),
    "pinned-other": Case("self-signed", tls="good", error="but `tls` of this camera expects"),
    "insecure": Case("expired", tls="insecure"),
    "first-use": Case("self-signed", host="127.0.0.1"),
    "strict": Case("self-signed", host="127.0.0.1", tls="verify", error="self-signed certificate"),
    "plain": Case(None, error="does not speak TLS"),
}


def wait_for_error(hub: Hub, camera: str, words: str) -> None:
    hub.wait_until(lambda: words in (hub.camera(camera).error or ""))


def test_only_identified_cameras_receive_a_request(
    cameras: dict[str, int],
    authority: Authority,
    tls_front: Callable[..., TlsFront],
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
) -> None:
    certificates = {
        "good": authority.certify("localhost"),
        "other name": authority.certify("other.example"),
        "expired": authority.certify("localhost", days=-1),
        "self-signed": authority.certify("localhost", self_signed=True),
    }
    policies = {name: f"fingerprint:{certificate.fingerprint}" for name, certificate in certificates.items()}
    fronts: dict[str, TlsFront] = {}
    entries = []
    for (scheme, port), (name, case) in itertools.product(cameras.items(), CASES.items()):
        camera, settings = f"{name}-{scheme.replace('+', '-')}", {}
        if case.tls is not None:
            settings["tls"] = policies.get(case.tls, case.tls)
        if case.certificate is not None:
            fronts[camera] = tls_front(port, certificates[case.certificate])
            port = fronts[camera].port  # noqa: PLW2901
        entries.append((case, entry(camera, scheme, case.host, port, **settings)))
    hub = start_hub([each for _, each in entries], recorder(), env={"SSL_CERT_FILE": str(authority.file)})
    for case, each in entries:
        name = each["id"]
        if case.error is None:
            hub.wait_for_results(name, 1)
            continue
        wait_for_error(hub, name, case.error)
        if case.certificate == "self-signed":
            wait_for_error(hub, name, f"`tls: {policies['self-signed']}`")
        assert hub.camera(name).state == ("auth_failed" if case.certificate else "unreachable"), name
    for case, each in entries:
        if case.certificate is not None:
            front = fronts[each["id"]]
            assert front.handshakes > 0
            assert (front.received == []) is (case.error is not None), each["id"]
    assert {hub.camera(each["id"]).restarts for _, each in entries} == {0}
    assert hub.stop() == 0
    assert "canary" not in hub.log()


@pytest.mark.parametrize("scheme", PATHS)
def test_a_changed_certificate_is_refused_until_the_operator_accepts_it(  # noqa: PLR0917 - fixtures
    scheme: str,
    cameras: dict[str, int],
    authority: Authority,
    tls_front: Callable[[int, ServerCertificate], TlsFront],
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
) -> None:
    first, second = (authority.certify("10.9.9.9", self_signed=True) for _ in range(2))
    front = tls_front(cameras[scheme], first)
    hub = start_hub([entry("lobby", scheme, "127.0.0.1", front.port)], recorder())
    hub.wait_for_results("lobby", 1)
    file = hub.folder / "state" / "camera-certificates" / f"127.0.0.1-{front.port}"
    assert file.read_text().strip() == first.fingerprint
    assert file.stat().st_mode & 0o077 == 0
    front.replace(second)
    hub.wait_for_state("lobby", "auth_failed")
    wait_for_error(hub, "lobby", f"has a new certificate with the fingerprint {second.fingerprint}")
    error = hub.camera("lobby").error or ""
    assert f"the known fingerprint is {first.fingerprint}" in error
    assert f"set `tls: fingerprint:{second.fingerprint}` of this camera, or delete {file}" in error
    handshakes = front.handshakes
    restart(hub)
    hub.wait_until(lambda: front.handshakes > handshakes)
    wait_for_error(hub, "lobby", second.fingerprint)
    assert front.received == []
    file.unlink()
    restart(hub)
    hub.wait_until(lambda: b"Authorization: Basic" in b"".join(front.received))
    assert file.read_text().strip() == second.fingerprint


def restart(hub: Hub) -> None:
    """Kill the worker of the only camera, and wait until its successor reports."""
    pid, restarts = hub.member_pid("camera:lobby"), hub.camera("lobby").restarts
    os.kill(pid, signal.SIGKILL)
    hub.wait_until(lambda: hub.camera("lobby").restarts > restarts and hub.camera("lobby").pid not in {None, pid})


def test_probe_sends_a_password_only_to_an_identified_camera(
    http_camera: Callable[..., HttpCamera], authority: Authority, tls_front: Callable[..., TlsFront], tmp_path: Path
) -> None:
    certificate = authority.certify("localhost", self_signed=True)
    front = tls_front(http_camera(**LOGIN).port, certificate)
    arguments = ("probe", f"https://viewer@localhost:{front.port}/stream.mjpg", "--password-env", "WORD")
    options: dict[str, Any] = {"cwd": tmp_path, "env": {"WORD": "canary"}}
    done = command.run(*arguments, **options)
    assert done.returncode == 69
    assert f"`tls: fingerprint:{certificate.fingerprint}`" in " ".join(done.stderr.split())
    assert front.received == []
    done = command.run(*arguments, "--tls", "insecure", "--seconds", "0.5", "--json", **options)
    assert json.loads(done.stdout)["certificate_sha256"] == certificate.fingerprint
    done = command.run(*arguments, "--tls", "fingerprint:" + "0" * 64, **options)
    assert done.returncode == 69
    assert f"expects {'0' * 64}" in " ".join(done.stderr.split())
    done = command.run(*arguments, "--tls", "secure", **options)
    assert done.returncode == 2
    assert "--tls must be verify, insecure or fingerprint:<sha256>" in done.stderr


def test_check_and_doctor_warn_of_insecure_cameras(tmp_path: Path) -> None:
    write(tmp_path, [entry("lobby", "rtsps", "10.0.0.5", 322, tls="insecure")], None)
    done = command.run("check", "--json", cwd=tmp_path)
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning.startswith("cameras.yaml: camera lobby: tls: insecure: the hub sends the password to any device")
    done = command.run("doctor", "--no-cameras", "--json", cwd=tmp_path)
    checks = {each["name"]: each["status"] for each in json.loads(done.stdout)["checks"]}
    assert checks["TLS of camera lobby"] == "warning"
