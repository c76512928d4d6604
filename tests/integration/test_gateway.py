"""The gateway's HTTP over real sockets: what it answers, how it refuses, and what it asks of the supervisor."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest

from nvision_hub.status import Meter
from tests.support import needs
from tests.support.gateway import CAMERA_PID, counted, facts, status
from workers.gateway import page
from workers.gateway.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from nvision_hub.link import Command
    from tests.support.gateway import Overseen


def problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """A problem document, as RFC 9457 has it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document["title"]
    assert document["detail"].endswith(".")
    return document


ERRORS: Final[list[tuple[str, str, bytes | None, int]]] = [
    ("GET", "/nothing", None, 404),
    ("GET", "/api/v1/cameras/", None, 404),
    ("GET", "/api/v1/cameras/nobody", None, 404),
    ("GET", "/api/v1/cameras/nobody/history", None, 404),
    ("GET", "/api/v1/cameras/nobody/snapshot.jpg", None, 404),
    ("GET", "/api/v1/cameras/lobby/snapshot.jpg?boxes=perhaps", None, 422),
    ("GET", "/api/v1/cameras/lobby/tuning?fps=0", None, 422),
    ("GET", "/api/v1/cameras/lobby/tuning?fps=nan", None, 422),
    ("POST", "/api/v1/cameras/nobody/pause", None, 404),
    ("DELETE", "/api/v1/cameras/nobody", None, 404),
    ("PUT", "/api/v1/cameras", b"{}", 405),
    ("POST", "/healthz", None, 405),
    ("PATCH", "/api/v1/cameras/lobby", b"{", 400),
    ("PATCH", "/api/v1/cameras/lobby", b"[]", 422),
    ("PATCH", "/api/v1/cameras/lobby", b'{"fps": "2"}', 422),
    ("PATCH", "/api/v1/cameras/lobby", b'{"fps": 0}', 422),
    ("PATCH", "/api/v1/cameras/lobby", b'{"fps": 61}', 422),
    ("PATCH", "/api/v1/cameras/lobby", b'{"fps": NaN}', 422),
    ("PATCH", "/api/v1/cameras/lobby", b'{"fps": null}', 422),
    ("PATCH", "/api/v1/cameras/lobby", b'{"jpeg_quality": 70.5}', 422),
    ("PATCH", "/api/v1/cameras/lobby", b'{"jpeg_quality": true}', 422),
    ("PATCH", "/api/v1/cameras/lobby", b'{"max_width": 8}', 422),
    ("PATCH", "/api/v1/cameras/lobby", b'{"url": "rtsp://evil.example"}', 422),
    ("POST", "/api/v1/cameras", b'{"id": "Gate", "url": "rtsp://10.0.0.6/"}', 422),
    ("POST", "/api/v1/cameras", b'{"id": "gate"}', 422),
    ("POST", "/callback/anything", b"{}", 404),
]


def test_errors_are_problem_documents(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    one.camera("lobby")
    with one.client() as client:
        for method, path, content, status in ERRORS:
            headers = {} if content is None else {"content-type": "application/json"}
            document = problem(client.request(method, path, content=content, headers=headers), status)
            if status == 422:
                assert all(re.match(r"/(body|query|path)", each["pointer"]) for each in document["errors"])
                assert document["errors"]
    assert one.asks == []


@pytest.mark.long
def test_what_the_supervisor_is_asked_and_what_its_answer_becomes(overseen: Callable[..., Overseen]) -> None:
    def answer(ask: Command) -> str | None:
        match ask.verb:
            case "restart":
                return "the hub is stopping"
            case "set":
                one.account("camera:lobby", pid=CAMERA_PID, facts=facts("lobby", **ask.arguments["values"]))
            case "add":
                one.account(f"camera:{ask.arguments['camera']['id']}", facts=facts(ask.arguments["camera"]["id"]))
            case "remove":
                one.gone(f"camera:{ask.arguments['camera']}")
        return None

    one = overseen(answer=answer)
    one.camera("lobby")
    with one.client() as client:
        assert client.post("/api/v1/cameras/lobby/pause").status_code == 202
        assert problem(client.post("/api/v1/cameras/lobby/restart"), 409)["detail"] == "The hub is stopping."
        tuned = client.patch("/api/v1/cameras/lobby", json={"fps": 2, "max_width": None})
        assert (tuned.status_code, tuned.json()["fps"]) == (200, 2)
        entry = {"id": "gate", "url": "rtsp://10.0.0.6/", "password": "canary", "masks": [[[0, 0], [1, 0], [1, 1]]]}
        added = client.post("/api/v1/cameras", json=entry)
        assert (added.status_code, added.headers["location"]) == (201, "/api/v1/cameras/gate")
        assert added.json()["id"] == "gate"
        assert client.delete("/api/v1/cameras/gate").status_code == 204
        problem(client.delete("/api/v1/cameras/gate"), 404)
    asked = [(ask.verb, {key: value for key, value in ask.arguments.items() if key != "id"}) for ask in one.asks]
    assert asked == [
        ("pause", {"camera": "lobby"}),
        ("restart", {"target": "camera:lobby"}),
        ("set", {"camera": "lobby", "values": {"fps": 2, "max_width": None}}),
        ("add", {"camera": entry}),
        ("remove", {"camera": "gate"}),
    ]
    assert len({ask.arguments["id"] for ask in one.asks}) == len(one.asks)


def test_a_refusal_of_values_is_a_problem_of_the_request(overseen: Callable[..., Overseen]) -> None:
    one = overseen(answer=lambda _ask: "there is a camera lobby already.")
    one.camera("lobby")
    with one.client() as client:
        problem(client.patch("/api/v1/cameras/lobby", json={"fps": 2}), 422)
        problem(client.post("/api/v1/cameras", json={"id": "gate", "url": "x"}), 422)
        problem(client.post("/api/v1/cameras", json={"id": "lobby", "url": "x"}), 409)


@pytest.mark.long
def test_a_supervisor_that_does_not_answer(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    one.camera("lobby")
    one.deaf = True
    with one.client() as client:
        document = problem(client.post("/api/v1/cameras/lobby/pause"), 503)
    assert "has not answered within 5 s" in document["detail"]


def test_a_refused_body_shows_none_of_what_was_in_it(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    with one.client() as client:
        entry = {"id": 5, "url": ["rtsp://viewer:canary@10.0.0.5/"], "password": "canary"}
        assert "canary" not in client.post("/api/v1/cameras", json=entry).text


def test_ready_once_all_is_there_with_reasons_before(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    with one.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert problem(client.get("/readyz"), 503)["reasons"] == ["There are no cameras."]
        one.account("service", pid=5)
        one.camera("lobby", state="stalled")
        reasons = ["The local service does not answer.", "No camera streams."]
        assert problem(client.get("/readyz"), 503)["reasons"] == reasons
        one.report("service", status(5, Meter(), state="streaming"))
        one.report("camera:lobby", status(CAMERA_PID, Meter()))
        assert client.get("/readyz").json() == {"ready": True, "reasons": []}


@pytest.mark.long
def test_without_a_broker_it_lives_and_says_so(
    overseen: Callable[..., Overseen], kept_valkey: Callable[..., Any]
) -> None:
    broker = kept_valkey()
    broker.start()
    one = overseen(broker=broker)
    one.camera("lobby")
    with one.client() as client:
        assert client.get("/readyz").status_code == 200
        broker.kill()
        reports = len(one.statuses)
        one.wait_for(lambda: len(one.statuses) > reports + 3)  # it asks every two seconds
        assert problem(client.get("/readyz"), 503)["reasons"] == ["Redis does not answer."]
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/v1/hub").json()["broker_up"] is False
        problem(client.get("/api/v1/cameras/lobby/snapshot.jpg"), 503)


def test_metrics_are_what_promtool_takes(overseen: Callable[..., Overseen]) -> None:
    promtool = needs.program("promtool", "prometheus")
    one = overseen()
    meter = counted(frames_sent_total=3, worker_cpu_seconds_total=1.25)
    meter.count("detections_total", name='per"son')
    meter.observe("frame_age_seconds", 0.02)
    one.camera("lobby", meter)
    with one.client() as client:
        answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'nvision_hub_frames_sent_total{site="test",camera="lobby"} 3' in answer.text
    done = subprocess.run(
        [promtool, "check", "metrics"], input=answer.text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_description_needs_no_other_host(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    with one.client() as client:
        answer = client.get("/api/openapi.json")
        for path in ("/docs", "/redoc", "/openapi.json"):
            problem(client.get(path), 404)
    described = answer.json()
    assert described["openapi"].startswith("3.1")
    assert re.findall(r"https?://", answer.text) == []
    assert set(described["paths"]) >= {
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/hub",
        "/api/v1/cameras",
        "/api/v1/cameras/{camera_id}",
        "/api/v1/cameras/{camera_id}/pause",
        "/api/v1/cameras/{camera_id}/snapshot.jpg",
        "/callback/{token}",
    }
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', answer.text))
    assert referred <= set(described["components"]["schemas"])
    for operations in described["paths"].values():
        for operation in operations.values():
            for code, response in operation["responses"].items():
                assert code < "400" or set(response["content"]) == {MEDIA_TYPE}


def test_every_answer_tells_browsers_to_take_care(overseen: Callable[..., Overseen]) -> None:
    one = overseen(token="right")
    with one.client() as client:
        for path in ("/", "/healthz", "/api/v1/cameras", "/nothing"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "access-control-allow-origin" not in headers
            assert "set-cookie" not in headers
            assert "server" not in headers


def test_the_page_and_what_it_is_made_of(overseen: Callable[..., Overseen]) -> None:
    one = overseen(token="right")
    files = page.files()
    with one.client() as client:
        for path, file in files.items():
            answer = client.get(path)
            assert (answer.status_code, answer.content) == (200, file.content)
            for_ever = "immutable" in answer.headers["cache-control"]
            assert for_ever == bool(re.search(r"/assets/.+-[\w-]{8,}\.", path)), path
            again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        policy = client.get("/").headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "/" in files


def test_a_page_that_was_not_built_says_how(tmp_path: Path) -> None:
    (served,) = page.files(tmp_path).items()
    assert served[0] == "/"
    assert b"npm run build" in served[1].content


def test_its_own_report_tells_of_itself(overseen: Callable[..., Overseen]) -> None:
    one = overseen()
    metrics = one.statuses[-1].metrics
    assert {name for name, _, _ in metrics["counters"]} == {"worker_cpu_seconds_total"}
    assert one.statuses[-1].promises["event loop"].within_s > 1
    assert json.loads(json.dumps(one.statuses[-1].row)) == {"url": one.url, "viewers": 0}
