"""Trial run of the model files in a child process.

OpenCV crashes on some ONNX files, for example if a convolution has a stride of 0, or if a face model has other outputs
than YuNet. Other files make OpenCV compute for hours or allocate all memory. In each case, the error names the file.
"""

from __future__ import annotations

import os
import resource
import signal
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2

from nvision_hub.errors import UnavailableError
from nvision_hub.runtime.forked_child import die_with_parent
from workers.local_service.inference import is_out_of_memory
from workers.local_service.yolo import YoloModel
from workers.local_service.yunet import YunetFaces

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.local_service.settings import LocalServiceSettings


TRIAL_TIMEOUT_S: Final = 60
MAX_MEMORY_BYTES: Final = 8 * 2**30  # limit on the address space
_MAX_MESSAGE_BYTES: Final = 4096  # must fit into the buffer of a pipe


def try_models(settings: LocalServiceSettings) -> None:
    """Load and run each of the user's models in a child process. Raises `UnavailableError` if a model cannot be used.

    Call this function before this process starts a thread.
    """
    if isinstance(settings.model, Path):
        load = partial(YoloModel, settings.model, settings.labels)
        survive(load, settings.model, "a YOLO model with one output")
    if settings.face_model is not None:
        survive(partial(YunetFaces, settings.face_model), settings.face_model, "a YuNet model")


def survive(load: Callable[[], object], path: Path, wanted: str) -> None:
    """Call `load` in a child process. Raises `UnavailableError` if it fails, crashes, hangs or runs out of memory."""
    if path.exists() and not path.is_file():
        raise UnavailableError(f"The model {path} cannot be used: it is not a regular file; use {wanted}.")
    parent = os.getpid()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 and later warn about a fork while threads run. At this time, only idle threads of libraries are
        # running.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            die_with_parent(parent)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(TRIAL_TIMEOUT_S)
            _limit_memory()
            silence = os.open(os.devnull, os.O_WRONLY)  # suppress the errors that OpenCV also prints
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            os.write(writing, failure(load, path, wanted).encode(errors="replace")[:_MAX_MESSAGE_BYTES])
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        message = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        raise UnavailableError(f"OpenCV needs more than {TRIAL_TIMEOUT_S} s to run the model {path}; use {wanted}.")
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        raise UnavailableError(f"OpenCV crashes ({name}) when it runs the model {path}; use {wanted}.")
    if message or os.WEXITSTATUS(status):
        raise UnavailableError(message or f"The model {path} cannot be used; use {wanted}.")


def failure(load: Callable[[], object], path: Path, wanted: str) -> str:
    """Call `load`. Return the reason if it fails; empty if it succeeds."""
    try:
        load()
    except Exception as error:  # noqa: BLE001 - a file may cause any error
        cause = error.__cause__ if isinstance(error, UnavailableError) else error
        if isinstance(cause, MemoryError) or (isinstance(cause, cv2.error) and is_out_of_memory(cause)):
            return f"The model {path} needs more than {MAX_MEMORY_BYTES // 2**30} GiB of memory; use {wanted}."
        if isinstance(error, UnavailableError):
            return str(error)
        return f"The model {path} cannot be used ({type(error).__name__}: {error}); use {wanted}."
    return ""


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
