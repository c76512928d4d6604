"""The queue of the local service: newest wins per source, sources take turns, and the size is limited."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.local_service import image_queue
from workers.local_service.image_queue import ImageQueue, QueueFullError


def push(queue: ImageQueue[str], key: str, image: str, *, live: bool = True, size: int = 1) -> str | None:
    return queue.push(key, image, size_bytes=size, is_replaceable=live)


def drained(queue: ImageQueue[str]) -> list[str]:
    """Process all images, one at a time, and return them in the order of their turns."""
    images = []
    while (turn := queue.pop()) is not None:
        images.append(turn[1])
        queue.release(turn[0])
    return images


def test_a_newer_image_replaces_the_waiting_one_of_its_source() -> None:
    queue = ImageQueue[str]()
    assert [push(queue, "a", image) for image in ("a1", "a2", "a3")] == [None, "a1", "a2"]
    assert push(queue, "b", "b1") is None
    assert drained(queue) == ["a3", "b1"]


def test_an_image_in_progress_is_not_replaced() -> None:
    queue = ImageQueue[str]()
    push(queue, "a", "a1")
    assert queue.pop() == ("a", "a1")
    assert push(queue, "a", "a2") is None
    assert push(queue, "a", "a3") == "a2"
    assert queue.pop() is None  # the images of a source are processed one after another
    queue.release("a")
    assert drained(queue) == ["a3"]


def test_a_source_keeps_its_turn_when_a_newer_image_arrives() -> None:
    queue = ImageQueue[str]()
    for image in ("a1", "b1", "c1", "a2"):
        push(queue, image[0], image)
    assert drained(queue) == ["a2", "b1", "c1"]


def test_sources_take_turns() -> None:
    queue = ImageQueue[str]()
    for image in ("a1", "a2", "a3", "b1", "b2", "c1"):
        push(queue, image[0], image, live=False)
    assert drained(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_an_image_that_must_be_answered_is_never_replaced() -> None:
    queue = ImageQueue[str]()
    assert push(queue, "a", "a1", live=False) is None
    assert push(queue, "a", "a2") is None
    assert push(queue, "a", "a3", live=False) is None
    assert push(queue, "a", "a4", live=False) is None
    assert drained(queue) == ["a1", "a2", "a3", "a4"]


def test_a_full_queue_accepts_only_images_that_replace_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_IMAGES", 2)
    queue = ImageQueue[str]()
    push(queue, "a", "a1")
    push(queue, "b", "b1", live=False)
    for key in ("b", "c"):
        with pytest.raises(QueueFullError):
            push(queue, key, "more")
    assert push(queue, "a", "a2") == "a1"
    assert drained(queue) == ["a2", "b1"]
    assert push(queue, "c", "c1") is None


def test_the_size_of_the_waiting_images_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_BYTES", 10)
    queue = ImageQueue[str]()
    push(queue, "a", "a1", size=6)
    with pytest.raises(QueueFullError):
        push(queue, "b", "b1", size=5)
    assert push(queue, "a", "a2", size=10) == "a1"
    assert queue.pop() == ("a", "a2")
    assert push(queue, "b", "b2", size=10) is None


@given(steps=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["live", "plain", "pop", "release"]))))
def test_every_image_is_processed_once_or_replaced_once_in_order(steps: list[tuple[str, str]]) -> None:
    queue = ImageQueue[str]()
    replaced: list[str] = []
    processed: list[str] = []
    busy: set[str] = set()
    for number, (key, step) in enumerate(steps):
        if step == "pop" and (turn := queue.pop()) is not None:
            assert turn[0] not in busy
            busy.add(turn[1][0])
            processed.append(turn[1])
        elif step == "release" and key in busy:
            queue.release(key)
            busy.remove(key)
        elif step in {"live", "plain"} and (older := push(queue, key, f"{key}{number}", live=step == "live")):
            replaced.append(older)
    for key in busy:
        queue.release(key)
    processed += drained(queue)
    pushed = [f"{key}{number}" for number, (key, step) in enumerate(steps) if step in {"live", "plain"}]
    assert sorted(processed + replaced) == sorted(pushed)
    for key in "abc":
        numbers = [int(image[1:]) for image in processed if image[0] == key]
        assert numbers == sorted(numbers)
