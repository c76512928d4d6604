"""Load and run the model files once in a child process.

OpenCV crashes on some ONNX files, for example if a convolution has a stride of 0 or if a face model has other outputs
than YuNet. Other files make it compute for hours, or allocate all memory. In each case, the error names the file.
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
from workers.local_service.yolo import YoloModel
from workers.local_service.yunet import YunetFaces

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.local_service.settings import LocalServiceSettings


TRIAL_TIMEOUT_S: Final = 60
MAX_MEMORY_BYTES: Final = 8 * 2**30  # of address space
_OUT_OF_MEMORY: Final = 3  # exit code of the child


def try_models(settings: LocalServiceSettings) -> None:
    """Load each model in a child process. Raises `UnavailableError` if OpenCV crashes.

    Call this function before this process starts a thread. This function does not report a model that OpenCV rejects.
    The parent process reports the model later, when it loads the model itself.
    """
    if isinstance(settings.model, Path):
        survive(partial(YoloModel, settings.model), settings.model, "a YOLO model with one output")
    if settings.face_model is not None:
        survive(partial(YunetFaces, settings.face_model), settings.face_model, "a YuNet model")


def survive(load: Callable[[], object], path: Path, wanted: str) -> None:
    """Call `load` in a child process. Raises `UnavailableError` if it crashes, hangs or needs too much memory."""
    parent = os.getpid()
    with warnings.catch_warnings():
        # Python 3.12+ warns about a fork while threads run. Only idle threads of libraries run at this time.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            die_with_parent(parent)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(TRIAL_TIMEOUT_S)
            resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
            silence = os.open(os.devnull, os.O_WRONLY)  # the parent process prints the same messages
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            load()
        except MemoryError:
            os._exit(_OUT_OF_MEMORY)
        except UnavailableError as error:
            is_memory = isinstance(error.__cause__, cv2.error) and error.__cause__.code == cv2.Error.StsNoMem
            os._exit(_OUT_OF_MEMORY if is_memory else 0)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        raise UnavailableError(f"OpenCV needs more than {TRIAL_TIMEOUT_S} s to run the model {path}; use {wanted}.")
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _OUT_OF_MEMORY:
        raise UnavailableError(
            f"The model {path} needs more than {MAX_MEMORY_BYTES // 2**30} GiB of memory; use {wanted}."
        )
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        raise UnavailableError(f"OpenCV crashes ({name}) when it runs the model {path}; use {wanted}.")
