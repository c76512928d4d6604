"""Memory files and sealed settings: content that cannot change, limits, and the secrets that belong to settings."""

from __future__ import annotations

import base64
import os
import time
from dataclasses import dataclass

import pytest

from nvision_hub.config.value_types import Secret
from nvision_hub.runtime.memory_file import MemoryFile
from nvision_hub.runtime.messages import AddCamera, Configure, MessageError, PauseCamera, SealedRequest, encode
from nvision_hub.runtime.sealed_settings import SealedSettings, SecretFinder, change_of_settings, sealed


@dataclass(frozen=True)
class Settings:
    username: str
    password: Secret


def test_a_memory_file_cannot_be_changed() -> None:
    file = MemoryFile.create(b"content")
    with pytest.raises(PermissionError):
        os.pwrite(file.fileno(), b"other", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(file.fileno(), 0)
    assert file.read() == b"content"
    assert file.read() == b"content", "a second read starts at the beginning"


def test_a_file_that_is_too_large_or_could_block_is_not_read() -> None:
    with pytest.raises(ValueError, match="permitted size"):
        MemoryFile.create(b"content").read(max_bytes=6)
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(ValueError, match="permitted size"):
        MemoryFile(reading).read()


def test_a_file_that_a_process_can_change_is_not_read() -> None:
    descriptor = os.memfd_create("content", os.MFD_ALLOW_SEALING)
    os.write(descriptor, b"content")
    with pytest.raises(ValueError, match="permitted size"):
        MemoryFile(descriptor).read()


def test_a_forked_child_closes_no_descriptor_of_its_parent() -> None:
    files = [MemoryFile.create(b"content")]
    descriptor = files[0].fileno()
    if (child := os.fork()) == 0:
        files.clear()
        try:
            os.fstat(descriptor)
        except OSError:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_settings_keep_their_values() -> None:
    settings = Settings("viewer", Secret("pa ss/ü:@#%&"))
    assert SealedSettings(file=sealed(settings, ()), revision=0).reveal() == settings


def test_only_the_secrets_of_the_settings_belong_to_them() -> None:
    password = 'pa ss/ü:@"#%&'
    login = base64.b64encode(f"viewer:{password}".encode()).decode().rstrip("=")
    others = ["other-password", base64.b64encode(b"viewer:other-password").decode().rstrip("="), "not/base64!"]
    settings = Settings("viewer", Secret(password))
    assert SecretFinder([password, login, *others]).secrets_in(settings) == [password, login]


def test_the_search_for_secrets_is_fast_for_thousands_of_secrets() -> None:
    finder = SecretFinder(f"secret-{number:05}-of-a-camera" for number in range(2000))
    settings = [Settings("viewer", Secret(f"secret-{number:05}-of-a-camera")) for number in range(1000)]
    before_s = time.process_time()
    found = [finder.secrets_in(each) for each in settings]
    assert found == [[each.password.reveal()] for each in settings]
    assert time.process_time() - before_s < 2.5  # 0.2 s; a comparison of each with each takes 6 s (both measured)


def test_a_change_applies_only_to_the_settings_that_were_replaced() -> None:
    change = Configure(fps=1.0, jpeg_quality=80, max_width=None, confidence_threshold=0.1, paused=False)
    first, other = (SealedSettings(file=sealed(None, ()), revision=revision) for revision in (1, 2))
    new = SealedSettings(file=sealed(None, ()), revision=3, replaces=1, change=change)
    assert change_of_settings(first, new) is change
    assert change_of_settings(other, new) is None
    assert change_of_settings(first, other) is None


def test_a_request_in_a_file_is_read_by_its_id() -> None:
    request = AddCamera(request_id="n1", entry={"id": "yard", "password": "canary"})
    sent = SealedRequest(request_id="n1", file=MemoryFile.create(encode(request)))
    assert sent.read() == request
    assert "canary" not in repr(sent)


def test_a_request_without_its_file_is_rejected() -> None:
    with pytest.raises(MessageError, match="did not arrive"):
        SealedRequest(request_id="n1", file=None).read()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x05.",
        encode(AddCamera(request_id="n2", entry={})),
        encode(PauseCamera(request_id="n1", camera="yard")),
    ],
    ids=["empty", "pickle", "other id", "other message"],
)
def test_a_file_without_the_request_is_rejected(content: bytes) -> None:
    with pytest.raises(MessageError, match="no request in the file"):
        SealedRequest(request_id="n1", file=MemoryFile.create(content)).read()
