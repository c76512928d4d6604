"""Model files that crash OpenCV, and previews and results in Redis with impossible numbers."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
import onnx
import pytest
import redis
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from websockets.sync.client import connect

from nvision_hub.runtime.messages import Forward, RequestPreview
from tests.support import command
from tests.support.connections import memory_bytes
from tests.support.onnx_models import color_model
from tests.support.patience import PATIENCE_S
from tests.support.reliability import measured
from workers.gateway.live.frame_image import DrawnResult, FrameImage
from workers.local_service.onnx_header import HeaderError, read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nvision_hub.runtime.messages import Request
    from tests.support.gateway import SupervisedGateway

pytestmark = [pytest.mark.fault, pytest.mark.long]

INPUT: Final = (1, 3, 64, 64)
JPEG: Final = simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8))


def write_model(path: Path, kind: str, *constants: Any, shape: tuple[int, ...] = INPUT, **attributes: Any) -> None:
    """Write a model with one node: a valid ONNX file, but no YOLO."""
    names = [f"constant{number}" for number in range(len(constants))]
    graph = helper.make_graph(
        [helper.make_node(kind, ["images", *names], ["output0"], **attributes)],
        kind,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, None, None])],
        [numpy_helper.from_array(np.asarray(array), name) for array, name in zip(constants, names, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


def truncate(path: Path, write: Callable[[Path], None]) -> None:
    write(path)
    path.write_bytes(path.read_bytes()[:-20])


def write_text(path: Path) -> None:
    path.write_text("Download the model from the release page.\n" * 50, encoding="utf-8")


def pack(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.onnx", b"model")


MODELS: Final[dict[str, Callable[[Path], None]]] = {
    "crash": lambda path: write_model(path, "Conv", np.zeros((4, 3, 3, 3), np.float32), strides=[0, 0]),
    "no-output": lambda path: write_model(path, "Slice", np.array([100]), np.array([200])),
    "one-dimension": lambda path: write_model(path, "Shape"),
    "two-dimensions": lambda path: write_model(path, "Flatten"),
    "three-columns": lambda path: write_model(path, "Reshape", np.array([1, 64, 3]), shape=(1, 3, 8, 8)),
    "huge-tensor": lambda path: write_model(path, "Tile", np.array([1, 1, 1, 2**20]), shape=(1, 3, 512, 512)),
    "audio": lambda path: write_model(path, "ReduceMean", shape=(1, 512), axes=[1], keepdims=0),
    "truncated": lambda path: truncate(path, MODELS["two-dimensions"]),
    "zip": pack,
    "text": write_text,
    "huge-input": lambda path: write_model(path, "Identity", shape=(1, 3, 2**31 - 1, 2**31 - 1)),
}


def refused(tmp_path: Path, option: str, path: Path) -> str:
    """Start the service with a model that it must reject. Return the error."""
    done = command.run("service", "--listen", "127.0.0.1:0", option, path, cwd=tmp_path)
    assert done.returncode == 69, (done.returncode, done.stderr)
    assert str(path) in done.stderr
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_no_yolo_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.onnx"
    MODELS[name](path)
    error = refused(tmp_path, "--model", path)
    if name == "crash":
        assert "OpenCV crashes (SIGFPE)" in error
    measured(
        70,
        "model files",
        injected=f"service --model with a valid ONNX file that is no YOLO: {name}",
        target="an error that names the file",
        measured="exit code 69; the trial process reports that OpenCV crashes" if name == "crash" else "exit code 69",
    )


def with_small_outputs(path: Path) -> None:
    """Write a model with the names of YuNet's outputs. OpenCV would read beyond the end of each output."""
    names = [f"{kind}_{stride}" for stride in (8, 16, 32) for kind in ("cls", "obj", "bbox", "kps")]
    nodes = [helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1], keepdims=0)]
    nodes += [helper.make_node("ReduceMean", ["mean"], [name], axes=[2], keepdims=1) for name in names]
    shape: list[str | int | None] = [1, 3, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "faces",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, 1]) for name in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


FACE_MODELS: Final[dict[str, Callable[[Path], None]]] = {
    "crash": MODELS["crash"],
    "yolo": lambda path: color_model(path, "v8"),
    "small-outputs": with_small_outputs,
}


@pytest.mark.parametrize("name", FACE_MODELS)
def test_a_model_that_is_no_face_model_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.onnx"
    FACE_MODELS[name](path)
    refused(tmp_path, "--face-model", path)


@pytest.mark.parametrize("option", ["--model", "--face-model"])
def test_a_video_is_no_model(tmp_path: Path, option: str) -> None:
    video = tmp_path / "video.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    refused(tmp_path, option, video)


@given(content=st.binary(min_size=1, max_size=200))
def test_any_file_has_a_header_or_is_no_model(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / f"header-{os.getpid()}.onnx"
    path.write_bytes(content)
    with contextlib.suppress(HeaderError):
        read_header(path)


def preview(**changes: str) -> bytes:
    """Return a preview of a 64 x 48 frame. The values of `changes` are JSON."""
    fields = {"camera": '"lobby"', "frame_id": '"f1"', "captured_at": "1.5", "width": "64", "height": "48", **changes}
    header = ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()
    return len(header).to_bytes(4, "big") + header + bytes(JPEG)


def result(boxes: str) -> bytes:
    return f'{{"source_id":"lobby","frame_id":"f1","detected_objects":{boxes}}}'.encode()


def box(left: str = "1", *, name: str = '"person"', confidence: str = "0.9") -> str:
    corners = f'{{"left":{left},"top":1,"right":9,"bottom":9}}'
    return f'[{{"name":{name},"confidence":{confidence},"bounding_box":{corners}}}]'


MIB: Final = 2**20
OTHER_RESULTS: Final = 200  # the gateway searches up to 300 results for those of a frame

PREVIEWS: Final = (
    b"",
    b"\xff\xff\xff\xff",
    preview(width="1e9999"),
    preview(height="-48"),
    preview(width="true"),
    preview(width="9" * 5000),
    preview(captured_at="1e9999"),
    preview(frame_id="[" * 5000 + "]" * 5000),
)
RESULTS: Final = {
    box(): 200,
    box("1e9999"): 409,
    box("9" * 5000): 200,  # not JSON for Python: ignored
    box("1e300"): 409,
    box(confidence="1e9999"): 409,
    box(name="7"): 409,
    box(name="null"): 409,
    "[null]": 409,
    '["person"]': 409,
    "7": 409,
    "[" * 5000: 200,  # not JSON: ignored
}


def test_results_with_images_take_little_memory_of_the_gateway(
    start_gateway: Callable[..., SupervisedGateway],
) -> None:
    def answer(request: Request) -> None:
        if isinstance(request, Forward) and isinstance(request.message, RequestPreview):
            client.publish("nvision:previews:lobby", preview())

    one = start_gateway(answer=answer)
    client = redis.Redis.from_url(one.settings.stream.url)
    one.camera("lobby")
    with client, one.client() as api:
        client.xadd("nvision:results", {"camera": "lobby", "event": result(box())})
        for _ in range(OTHER_RESULTS):  # newer results of other frames
            client.xadd("nvision:results", {"camera": "lobby", "event": b"x" * MIB})
        pid = one.child.pid
        before = memory_bytes(pid)
        drawn = api.get("/api/v1/cameras/lobby/snapshot.jpg?boxes=1", timeout=PATIENCE_S)
        taken = memory_bytes(pid) - before
        client.delete("nvision:results")
        empty = api.get("/api/v1/cameras/lobby/snapshot.jpg?boxes=1", timeout=PATIENCE_S)
    assert (drawn.status_code, empty.status_code) == (200, 200)
    assert drawn.content != empty.content, "the gateway found the result"
    assert taken < OTHER_RESULTS * MIB / 2, f"{taken / MIB:.0f} MiB"


def test_impossible_numbers_in_redis_cause_no_error(start_gateway: Callable[..., SupervisedGateway]) -> None:
    def answer(request: Request) -> None:
        if isinstance(request, Forward) and isinstance(request.message, RequestPreview):
            for record in (*PREVIEWS, preview()):
                client.publish("nvision:previews:lobby", record)

    one = start_gateway(answer=answer)
    client = redis.Redis.from_url(one.settings.stream.url)
    one.camera("lobby")
    with client, one.client() as api:
        for boxes, status in RESULTS.items():
            client.delete("nvision:results")
            client.xadd("nvision:results", {"camera": "lobby"})
            client.xadd("nvision:results", {"camera": "lobby", "event": b'["f1"]'})
            client.xadd("nvision:results", {"camera": "lobby", "event": result(boxes)})
            found = api.get("/api/v1/cameras/lobby/snapshot.jpg?boxes=1")
            assert found.status_code == status, (boxes[:100], found.text[:200])
            if status == 409:
                assert found.json()["code"] == "frame_unreadable"
        assert api.get("/api/v1/cameras/lobby/tuning").status_code == 200
        assert api.get("/healthz").status_code == 200
        with connect(one.url.replace("http", "ws") + "/api/v1/live", proxy=None) as viewer:
            viewer.send(json.dumps({"token": None, "watch": ["lobby"], "fps": 30}))
            while not isinstance(message := viewer.recv(60), bytes):
                pass
            assert message == preview()  # the viewer's own request has published the others before it
    measured(
        71,
        "impossible numbers in Redis",
        injected=f"{len(PREVIEWS)} forged previews and {len(RESULTS) - 1} forged results: 1e9999, 5,000 digits, wrong "
        "types, 5,000 nested lists",
        target="ignored, or 409; the gateway keeps running",
        measured="ignored or 409; the next valid preview reaches the viewer",
    )


@given(data=st.binary() | st.sampled_from(PREVIEWS))
def test_a_preview_is_valid_or_refused(data: bytes) -> None:
    try:
        frame = FrameImage.decode(data)
    except ValueError:
        return
    assert 0 < frame.width <= 65_535


def test_a_result_with_too_many_detections_is_refused() -> None:
    detection = {"name": "a", "confidence": 1, "bounding_box": {"left": 0, "top": 0, "right": 1, "bottom": 1}}
    DrawnResult.model_validate({"frame_id": "f", "detected_objects": [detection] * 10_000})
    with pytest.raises(ValueError, match="at most 10000"):
        DrawnResult.model_validate({"frame_id": "f", "detected_objects": [detection] * 10_001})
