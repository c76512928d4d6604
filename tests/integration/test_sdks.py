"""The official SDKs, changed only in the address, as clients of the local service and references for our encoding."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from nvision_hub.nvision import protocol
from nvision_hub.nvision.protocol import RequestOptions
from tests.support import footage, needs, sdks
from tests.support.local_service import KEY, LocalService
from tests.support.street import Car, Person, as_jpeg, street
from workers.local_service import packaged_models
from workers.local_service.images import open_image

if TYPE_CHECKING:
    from collections.abc import Iterator

WALKER: Final = Person(x=300, feet=430, tall=180)
BUS: Final = Car(x=600, wheels=500, long=240)
SHOWN: Final = street(WALKER, BUS, seed=9)
BEFORE: Final = [as_jpeg(street(seed=seed)) for seed in range(4)]

# Names of the three parameters in each SDK.
JAVASCRIPT: Final = ("confidenceThreshold", "outputCroppedImage", "outputVisualizedImage")
PYTHON: Final = ("confidence_threshold", "output_cropped_image", "output_visualized_image")


PYTHON_SDK = pytest.mark.peer("Nvision SDK", "nvision (Python)", "pypi:nvision")
JAVASCRIPT_SDK = pytest.mark.peer("Nvision SDK", "@nipacloud/nvision", "npm:tests/sdk:@nipacloud/nvision")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    running = LocalService(
        log=tmp_path_factory.mktemp("service") / "log",
        settings={"port": 0, "streaming_keys": [KEY, "other"], "model": "moving"},
    )
    running.start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log_text()


def runtime_websocket() -> str:
    """Return the flag that Node before version 22 needs for its own WebSocket. The SDK prefers this WebSocket."""
    node = needs.program("node", "nodejs npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    major = int(version.lstrip("v").split(".")[0])
    if major < 20:
        pytest.skip(f"Node {version.strip()} has no WebSocket of its own")
    return "--experimental-websocket"


def request_for(
    interface: str, which: str, mode: dict[str, Any], image: bytes = as_jpeg(SHOWN), key: str = KEY
) -> dict[str, Any]:
    """Return requests with four images of an empty street, then `image` with the parameters in `mode`."""
    raw = "image" if interface == "python" else "rawData"
    requests = [{raw: base64.b64encode(before).decode()} for before in BEFORE]
    requests.append({raw: base64.b64encode(image).decode()} | mode)
    if interface == "stream":
        for number, request in enumerate(requests):
            request |= {"sourceId": "lobby", "frameId": f"frame-{number}"}
    return {"interface": interface, "service": which, "key": key, "requests": requests}


def result_of(service: LocalService, asked: dict[str, Any], flags: tuple[str, ...] = ()) -> dict[str, Any]:
    base = service.url.removeprefix("ws://")
    results = sdks.python(base, asked) if asked["interface"] == "python" else sdks.javascript(base, asked, flags)
    return results[-1]


def decoded_image(text: str) -> Any:
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def right(found: dict[str, Any], box: tuple[float, float, float, float]) -> bool:
    """Return whether the detected box matches the expected box to within a few pixels."""
    edges = (found["bounding_box"][edge] for edge in ("left", "top", "right", "bottom"))
    return all(abs(mine - theirs) <= 14 for mine, theirs in zip(edges, box, strict=True))


@pytest.mark.parametrize(
    "interface",
    [
        pytest.param("stream", marks=JAVASCRIPT_SDK),
        pytest.param("rest", marks=JAVASCRIPT_SDK),
        pytest.param("python", marks=PYTHON_SDK),
    ],
)
@pytest.mark.parametrize("which", ["object-detection", "face-detection"])
@pytest.mark.parametrize("mode", ["plain", "cropped", "visualized"])
def test_every_interface_returns_the_right_result_for_every_service_and_mode(
    service: LocalService, interface: str, which: str, mode: str
) -> None:
    _, cropped, visualized = PYTHON if interface == "python" else JAVASCRIPT
    parameters = {"plain": {}, "cropped": {cropped: True}, "visualized": {visualized: True}}[mode]
    faces = which == "face-detection"
    if faces:
        footage.packaged(packaged_models.FACES)
    image = footage.ASTRONAUT.read_bytes() if faces else as_jpeg(SHOWN)
    sent = open_image(image) if faces else SHOWN
    result = result_of(service, request_for(interface, which, parameters, image))

    assert result["service_id"]
    if interface == "stream":
        assert (result["source_id"], result["frame_id"]) == ("lobby", "frame-4")
    if faces:
        (face,) = result["detected_faces"]
        assert (face["name"], face["parent"]) == ("face", "human")
        assert right(face, footage.ASTRONAUT_FACE)
        found = [face]
    else:
        found = sorted(result["detected_objects"], key=lambda detection: detection["bounding_box"]["left"])
        assert [(detection["name"], detection["parent"]) for detection in found] == [("moving", "object")] * 2
        assert right(found[0], WALKER.box)
        assert right(found[1], BUS.box)
    for detection in found:
        assert 0.1 <= detection["confidence"] <= 1
        if mode == "cropped":
            box = detection["bounding_box"]
            shown = sent[box["top"] : box["bottom"], box["left"] : box["right"]]
            assert cv2.absdiff(decoded_image(detection["cropped_image"]), shown).mean() < 12
        else:
            assert not detection.get("cropped_image")
    if mode == "visualized":
        drawn = decoded_image(result["raw_data"])
        assert drawn.shape == sent.shape
        assert cv2.absdiff(drawn, sent).max() > 80
    else:
        assert not result.get("raw_data")


@pytest.mark.parametrize("interface", ["stream", "rest", "python"])
def test_the_threshold_reaches_the_service(service: LocalService, interface: str) -> None:
    threshold = (PYTHON if interface == "python" else JAVASCRIPT)[0]
    pale = street(Person(x=300, feet=430, tall=60, coat=(110, 110, 110)), BUS, seed=9)
    everything, sure = (
        result_of(service, request_for(interface, "object-detection", {threshold: value}, as_jpeg(pale), key="other"))
        for value in (0.1, 0.485)
    )
    assert len(everything["detected_objects"]) == 2
    (found,) = sure["detected_objects"]
    assert right(found, BUS.box)


def test_the_builtin_websocket_streams_results(service: LocalService) -> None:
    asked = request_for("stream", "object-detection", {})
    result = result_of(service, asked, (runtime_websocket(), "--no-warnings"))
    assert [found["name"] for found in result["detected_objects"]] == ["moving", "moving"]


def test_an_empty_result_and_a_broken_image_do_not_end_the_application(service: LocalService) -> None:
    result = result_of(service, request_for("stream", "object-detection", {}, b"\xff\xd8\xff broken"))
    assert result["frame_id"] == "frame-4"
    assert "detected_objects" not in result


@pytest.mark.parametrize("interface", ["rest", "python"])
@pytest.mark.parametrize(("key", "sent", "status"), [("wrong", as_jpeg(SHOWN), 401), (KEY, b"broken", 400)])
def test_an_error_reaches_the_application_with_its_message(
    service: LocalService, interface: str, key: str, sent: bytes, status: int
) -> None:
    result = result_of(service, request_for(interface, "object-detection", {}, sent, key))
    assert result["status"] == status
    assert isinstance(result["message"], str)


async def test_our_encoder_and_the_official_one_are_compatible() -> None:
    """The SDK's request equals the hub's byte for byte, and the SDK can decode the hub's request and result."""
    options = RequestOptions(confidence_threshold=0.25, output_cropped_image=True, output_visualized_image=True)
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(connection: ServerConnection) -> None:
        message = await connection.recv()
        assert isinstance(message, bytes)
        received.put_nowait(message)
        await connection.send(
            protocol.encode_request(
                source_id="höf-1", frame_id="0199", created_at="", image=bytes(range(256)), options=options
            )
        )
        await connection.wait_closed()

    def choose(_: ServerConnection, offered: Any) -> Any:
        return offered[0]

    request = {
        "rawData": base64.b64encode(b"\xff\xd8\xff\xd9").decode(),
        "sourceId": "cam-1",
        "frameId": "7",
        "confidenceThreshold": 0.25,
        "outputCroppedImage": True,
        "outputVisualizedImage": True,
    }
    asked = {"interface": "stream", "service": "object-detection", "key": "k", "requests": [request]}
    async with serve(answer, "127.0.0.1", 0, select_subprotocol=choose) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        (read,) = await asyncio.to_thread(sdks.javascript, f"127.0.0.1:{port}/api", asked)
    official = await received.get()
    assert official == protocol.encode_request(
        source_id="cam-1",
        frame_id="7",
        created_at=protocol.decode(official).created_at,
        image=b"\xff\xd8\xff\xd9",
        options=options,
    )
    assert (read["source_id"], read["frame_id"]) == ("höf-1", "0199")
    assert base64.b64decode(read["raw_data"]) == bytes(range(256))
