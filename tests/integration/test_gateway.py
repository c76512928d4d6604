"""The gateway's HTTP API over real sockets: responses, problem documents and requests to the supervisor."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
from starlette.routing import Router
from starlette.testclient import TestClient

from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.messages import AddCamera, PauseCamera, RemoveCamera, RestartProcess, SetCamera
from nvision_hub.runtime.status import GatewayInfo
from tests.support import needs
from tests.support.gateway import CAMERA_PID, counted, facts, status
from workers.gateway.api import page
from workers.gateway.api.problem_details import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from nvision_hub.runtime.messages import Request
    from tests.support.gateway import SupervisedGateway


def problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """Return the problem document (RFC 9457) of a response with this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document["title"]
    assert re.fullmatch(r"[a-z_]+", document["code"])
    assert document["detail"].endswith(".")
    return document


ERRORS: Final[list[tuple[str, str, bytes | None, int]]] = [
    ("GET", "/nothing", None, 404),
    ("GET", "/api/v1/cameras/", None, 404),
    ("GET", "/api/v1/cameras/unknown", None, 404),
    ("GET", "/api/v1/cameras/unknown/history", None, 404),
    ("GET", "/api/v1/cameras/unknown/snapshot.jpg", None, 404),
    ("GET", "/api/v1/cameras/lobby/snapshot.jpg?boxes=perhaps", None, 422),
    ("GET", "/api/v1/cameras/lobby/tuning?fps=0", None, 422),
    ("GET", "/api/v1/cameras/lobby/tuning?fps=nan", None, 422),
    ("POST", "/api/v1/cameras/unknown/pause", None, 404),
    ("DELETE", "/api/v1/cameras/unknown", None, 404),
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


def test_errors_are_problem_documents(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    one.camera("lobby")
    with one.client() as client:
        for method, path, content, status in ERRORS:
            headers = {} if content is None else {"content-type": "application/json"}
            document = problem(client.request(method, path, content=content, headers=headers), status)
            if status == 422:
                assert all(re.match(r"/(body|query|path)", each["pointer"]) for each in document["errors"])
                assert all(re.fullmatch(r"[a-z_]+", each["code"]) for each in document["errors"])
                assert {each["pointer"].split("/")[-1] for each in document["errors"]} <= {
                    each["field"] or "body" for each in document["errors"]
                }
                assert document["errors"]
                assert all(each["code"] and each["detail"] for each in document["errors"])
    assert one.requests == []


def test_head_is_answered_like_get_without_a_body(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    one.camera("lobby")
    with one.client() as client:
        for path in ("/healthz", "/readyz", "/metrics", "/api/v1/cameras", "/api/openapi.json", "/", "/unknown"):
            read, checked = client.get(path), client.head(path)
            assert checked.status_code == read.status_code
            assert checked.headers["content-type"] == read.headers["content-type"]
            assert checked.content == b""
            assert client.get("/healthz").status_code == 200, "the connection is usable after a response to HEAD"
    wget = needs.program("wget", "wget")
    subprocess.run([wget, "--spider", "--tries=1", "--no-proxy", f"{one.url}/healthz"], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/healthz", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/", "GET, HEAD"),
        ("/api/v1/cameras", "GET, HEAD, POST"),
        ("/api/v1/cameras/lobby", "GET, HEAD, PATCH, DELETE"),
        ("/api/v1/cameras/lobby/pause", "POST"),
    ],
)
def test_a_wrong_method_gets_the_supported_ones(
    start_gateway: Callable[..., SupervisedGateway], path: str, allowed: str
) -> None:
    with start_gateway().client() as client:
        answer = client.put(path)
        problem(answer, 405)
        assert answer.headers["allow"] == allowed
        if "GET" not in allowed:
            assert client.head(path).status_code == 405


@pytest.mark.long
def test_requests_reach_the_supervisor_and_return_its_reply(start_gateway: Callable[..., SupervisedGateway]) -> None:
    def answer(request: Request) -> str | None:
        match request:
            case RestartProcess():
                return "the hub is stopping"
            case SetCamera(values=values):
                one.set_process("camera:lobby", pid=CAMERA_PID, facts=facts("lobby", **dict[str, Any](values)))
            case AddCamera(entry={"id": str(camera)}):
                one.set_process(f"camera:{camera}", facts=facts(camera))
            case RemoveCamera(camera=camera):
                one.remove_process(f"camera:{camera}")
        return None

    one = start_gateway(answer=answer)
    one.camera("lobby")
    with one.client() as client:
        assert client.post("/api/v1/cameras/lobby/pause").status_code == 202
        assert problem(client.post("/api/v1/cameras/lobby/restart"), 409)["detail"] == "The hub is stopping."
        tuned = client.patch("/api/v1/cameras/lobby", json={"fps": 2, "max_width": None})
        assert (tuned.status_code, tuned.json()["fps"]) == (200, 2)
        entry: dict[str, Any] = {
            "id": "gate",
            "url": "rtsp://10.0.0.6/",
            "password": "canary",
            "masks": [[[0, 0], [1, 0], [1, 1]]],
        }
        added = client.post("/api/v1/cameras", json=entry)
        assert (added.status_code, added.headers["location"]) == (201, "/api/v1/cameras/gate")
        assert added.json()["id"] == "gate"
        assert client.delete("/api/v1/cameras/gate").status_code == 204
        problem(client.delete("/api/v1/cameras/gate"), 404)
    ids = [request.request_id for request in one.requests]
    assert one.requests == [
        PauseCamera(request_id=ids[0], camera="lobby"),
        RestartProcess(request_id=ids[1], target="camera:lobby"),
        SetCamera(request_id=ids[2], camera="lobby", values={"fps": 2, "max_width": None}),
        AddCamera(request_id=ids[3], entry=entry),
        RemoveCamera(request_id=ids[4], camera="gate"),
    ]
    assert len(set(ids)) == len(ids)


def test_rejected_values_are_a_problem_of_the_request(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway(answer=lambda _request: "camera lobby already exists")
    one.camera("lobby")
    with one.client() as client:
        problem(client.patch("/api/v1/cameras/lobby", json={"fps": 2}), 422)
        problem(client.post("/api/v1/cameras", json={"id": "gate", "url": "x"}), 422)
        problem(client.post("/api/v1/cameras", json={"id": "lobby", "url": "x"}), 409)


@pytest.mark.long
def test_a_supervisor_that_does_not_reply_is_reported(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    one.camera("lobby")
    one.is_silent = True
    with one.client() as client:
        document = problem(client.post("/api/v1/cameras/lobby/pause"), 503)
    assert "did not reply within 5 s" in document["detail"]


def test_a_rejected_body_is_not_quoted(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    with one.client() as client:
        entry = {"id": 5, "url": ["rtsp://viewer:canary@10.0.0.5/"], "password": "canary"}
        assert "canary" not in client.post("/api/v1/cameras", json=entry).text


def test_readiness_lists_its_reasons(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    with one.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert problem(client.get("/readyz"), 503)["reasons"] == ["There are no cameras."]
        one.set_process("service", pid=5)
        one.camera("lobby", state="stalled")
        reasons = ["The local service is not ready.", "No camera is streaming."]
        assert problem(client.get("/readyz"), 503)["reasons"] == reasons
        one.report("service", status(5, Meter(), state="streaming"))
        one.report("camera:lobby", status(CAMERA_PID, Meter()))
        assert client.get("/readyz").json() == {"ready": True, "reasons": []}


@pytest.mark.long
def test_without_a_broker_the_gateway_is_alive_but_not_ready(
    start_gateway: Callable[..., SupervisedGateway], kept_valkey: Callable[..., Any]
) -> None:
    broker = kept_valkey()
    broker.start()
    one = start_gateway(broker=broker)
    one.camera("lobby")
    with one.client() as client:
        assert client.get("/readyz").status_code == 200
        broker.kill()
        reports = len(one.statuses)
        one.wait_for(lambda: len(one.statuses) > reports + 3)  # the gateway pings Redis every two seconds
        assert problem(client.get("/readyz"), 503)["reasons"] == ["Redis does not reply."]
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/v1/hub").json()["broker_up"] is False
        problem(client.get("/api/v1/cameras/lobby/snapshot.jpg"), 503)


def test_promtool_accepts_the_metrics(start_gateway: Callable[..., SupervisedGateway]) -> None:
    promtool = needs.program("promtool", "prometheus")
    one = start_gateway()
    meter = counted(frames_sent_total=3, worker_cpu_seconds_total=1.25)
    meter.count(catalogue.DETECTIONS_TOTAL, name='per"son')
    meter.observe(catalogue.FRAME_AGE_SECONDS, 0.02)
    one.camera("lobby", meter)
    with one.client() as client:
        answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'nvision_hub_frames_sent_total{site="test",camera="lobby"} 3' in answer.text
    done = subprocess.run(
        [promtool, "check", "metrics"], input=answer.text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_openapi_document_is_self_contained(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    with one.client() as client:
        answer = client.get("/api/openapi.json")
        for path in ("/docs", "/redoc", "/openapi.json"):
            problem(client.get(path), 404)
    described = answer.json()
    assert described["openapi"].startswith("3.1")
    assert described["servers"][0]["url"] == "/"
    bodies = [
        content
        for item in described["paths"].values()
        for operation in item.values()
        for response in operation["responses"].values()
        for content in response.get("content", {}).values()
    ]
    assert bodies
    assert all(content.get("schema") for content in bodies), "generated clients omit a body without a schema"
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


def test_every_response_has_security_headers(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway(token="right")
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


def test_the_page_and_its_assets_are_served(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway(token="right")
    paths = [route.path for route in page.routes()]
    with one.client() as client:
        for path in paths:
            answer = client.get(path)
            file = page.STATIC_DIR / (page.INDEX if path == "/" else path[1:])
            assert answer.status_code == 200
            assert answer.content == file.read_bytes() if file.exists() else b"npm run build" in answer.content
            for_ever = "immutable" in answer.headers["cache-control"]
            assert for_ever == bool(re.search(r"/assets/.+-[\w-]{8,}\.", path)), path
            again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        policy = client.get("/").headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "/" in paths


def test_a_missing_page_explains_how_to_build_it(tmp_path: Path) -> None:
    (route,) = page.routes(tmp_path)
    assert route.path == "/"
    assert "npm run build" in TestClient(Router([route])).get("/").text


def test_the_gateways_status_describes_it(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    metrics = one.statuses[-1].metrics
    assert {name for name, _ in metrics.counters} == {"redis_entries_rejected_total", "worker_cpu_seconds_total"}
    assert one.statuses[-1].deadlines["event loop"].timeout_s > 1
    assert one.statuses[-1].info == GatewayInfo(url=one.url, viewers=0)
