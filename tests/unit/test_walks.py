"""A packet passes through the modules from the source to the JPEG with few returns to an earlier module.

The test follows the packet and its frame as arguments of calls. It ignores calls to the pipeline module itself. If a
module is called again after another module, the call is a return, because a reader must jump back.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest

from nvision_hub.config.models import Camera
from nvision_hub.media.decode.motion_gate import MotionGate
from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.media.sources import Packet, open_source
from nvision_hub.metrics.meter import Meter
from tests.support import files
from workers.camera.encode_stage import EncodeStage
from workers.camera.latest_frame import EncodedFrame, LatestFrameSlot

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
CARRIERS = (Packet, av.Packet, av.VideoFrame, EncodedFrame)
PIPELINE = "nvision_hub/media/decode/pipeline.py"
MAX_RETURNS = 2


def path_of_one_packet(push: Callable[[], object]) -> list[str]:
    """Return the paths of the modules to which `push` passes its packet and its frames, in order of the calls."""
    path: list[str] = []

    def on_event(frame: Any, event: str, _argument: object) -> None:
        code = frame.f_code
        source = Path(code.co_filename)
        if event != "call" or not source.is_relative_to(ROOT) or source.is_relative_to(ROOT / "tests"):
            return
        arguments = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
        module = str(source.relative_to(ROOT))
        is_carried = any(isinstance(argument, CARRIERS) for argument in arguments)
        if is_carried and module != PIPELINE and path[-1:] != [module]:
            path.append(module)

    sys.setprofile(on_event)
    try:
        push()
    finally:
        sys.setprofile(None)
    return path


@pytest.mark.parametrize("when", ["always", "motion"])
async def test_a_packet_returns_to_earlier_modules_at_most_twice(tmp_path: Path, when: str) -> None:
    files.write(tmp_path / "clip.mp4", full_range=False, frames=40)
    camera = Camera.model_validate({"id": "lobby", "url": f"file:{tmp_path}/clip.mp4", "fps": 25, "when": when})
    meter, slot = Meter(), LatestFrameSlot()
    stage = EncodeStage(camera, meter, slot.put)
    source = open_source(camera)
    gate = MotionGate(camera) if when == "motion" else None
    pipeline = DecodePipeline(source=source, fps=25, meter=meter, on_frame=stage.push, gate=gate)
    paths = [path_of_one_packet(partial(pipeline.push, packet, 25)) for packet in islice(source.packets(), 60)]
    source.close()
    assert any(path[-1] == "workers/camera/latest_frame.py" for path in paths)
    for path in paths:
        assert len(path) - len(set(path)) <= MAX_RETURNS, path
