"""The queue of the local service: newest wins per source, sources take turns, and the size is limited."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.local_service import image_queue
from workers.local_service.image_queue import ImageQueue, ImageSender, QueueFullError


def push(
    queue: ImageQueue[str],
    key: str,
    image: str,
    *,
    client: str = "",
    stream: str = "",
    live: bool = True,
    size: int = 1,
) -> list[str]:
    """Push an image of the source `key`. By default, each source is a client of its own with one stream."""
    sender = ImageSender(key="secret", address=client or key, stream=stream)
    return queue.push(key, image, sender=sender, size_bytes=size, is_replaceable=live)


def drained(queue: ImageQueue[str]) -> list[str]:
    """Process all images, one at a time, and return them in the order of their turns."""
    images = []
    while (turn := queue.pop()) is not None:
        images.append(turn[1])
        queue.release(turn[0])
    return images


def test_a_newer_image_replaces_the_waiting_one_of_its_source() -> None:
    queue = ImageQueue[str]()
    assert [push(queue, "a", image) for image in ("a1", "a2", "a3")] == [[], ["a1"], ["a2"]]
    assert push(queue, "b", "b1") == []
    assert drained(queue) == ["a3", "b1"]


def test_an_image_in_progress_is_not_replaced() -> None:
    queue = ImageQueue[str]()
    push(queue, "a", "a1")
    assert queue.pop() == ("a", "a1")
    assert push(queue, "a", "a2") == []
    assert push(queue, "a", "a3") == ["a2"]
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
    assert push(queue, "a", "a1", live=False) == []
    assert push(queue, "a", "a2") == []
    assert push(queue, "a", "a3", live=False) == []
    assert push(queue, "a", "a4", live=False) == []
    assert drained(queue) == ["a1", "a2", "a3", "a4"]


def test_a_full_queue_accepts_only_images_that_replace_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_IMAGES", 2)
    queue = ImageQueue[str]()
    push(queue, "a", "a1")
    push(queue, "b", "b1", live=False)
    with pytest.raises(QueueFullError):
        push(queue, "c", "more")
    assert push(queue, "a", "a2") == ["a1"]
    assert push(queue, "b", "b2") == ["b1"]
    assert drained(queue) == ["a2", "b2"]
    assert push(queue, "c", "c1") == []


def test_the_size_of_the_waiting_images_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_BYTES", 10)
    queue = ImageQueue[str]()
    push(queue, "a", "a1", size=6)
    with pytest.raises(QueueFullError):
        push(queue, "b", "b1", size=6)
    assert push(queue, "a", "a2", size=10) == ["a1"]
    assert queue.pop() == ("a", "a2")
    assert push(queue, "b", "b2", size=10) == []


def test_a_client_that_fills_the_queue_gives_way_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_IMAGES", 4)
    queue = ImageQueue[str]()
    for image in ("g1", "g2", "g3", "g4"):
        push(queue, "g", image, live=False)
    assert push(queue, "g", "g5", live=False) == ["g1"]
    assert push(queue, "a", "a1") == ["g2"]
    assert push(queue, "b", "b1", live=False) == ["g3"]
    assert push(queue, "b", "b2", live=False) == ["b1"]
    assert push(queue, "c", "c1") == ["g4"]
    with pytest.raises(QueueFullError):
        push(queue, "d", "d1")
    assert drained(queue) == ["g5", "a1", "b2", "c1"]


def test_a_client_gains_nothing_from_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_IMAGES", 3)
    queue = ImageQueue[str]()
    for key in ("g", "h", "i"):
        push(queue, key, f"{key}1", client="greedy", stream=key)
    with pytest.raises(QueueFullError):
        push(queue, "j", "j1", client="greedy", stream="j")
    assert push(queue, "a", "a1") == ["g1"]
    assert drained(queue) == ["h1", "i1", "a1"]


def test_keys_and_addresses_tell_clients_apart() -> None:
    one = ImageSender(key="secret", address="10.0.0.1", stream="1")
    assert one.client == ImageSender(key="secret", address="10.0.0.1", stream="2").client
    assert one.client != ImageSender(key="other", address="10.0.0.1", stream="1").client
    assert one.client != ImageSender(key="secret", address="10.0.0.2", stream="1").client
    assert "secret" not in repr(one)


def test_the_streams_of_a_client_are_fair_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_IMAGES", 4)
    queue = ImageQueue[str]()
    push(queue, "a", "a1", client="hub", stream="a")
    for image in ("g1", "g2"):
        push(queue, "g", image, client="hub", stream="g", live=False)
    push(queue, "x", "x1")
    assert push(queue, "b", "b1", client="hub", stream="b") == ["g1"]
    assert push(queue, "g", "g3", client="hub", stream="g", live=False) == ["g2"]
    with pytest.raises(QueueFullError):  # all streams of the hub have one image, and no other client has more
        push(queue, "c", "c1", client="hub", stream="c")
    assert drained(queue) == ["a1", "g3", "x1", "b1"]


def test_a_client_gains_nothing_from_many_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_IMAGES", 3)
    queue = ImageQueue[str]()
    for key in ("g", "h", "i"):
        push(queue, key, f"{key}1", client="greedy", live=False)
    assert push(queue, "a", "a1") == ["g1"]
    assert drained(queue) == ["h1", "i1", "a1"]


def test_a_source_in_progress_can_lose_its_waiting_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_IMAGES", 2)
    queue = ImageQueue[str]()
    push(queue, "g", "g1", live=False)
    assert queue.pop() == ("g", "g1")
    for image in ("g2", "g3"):
        push(queue, "g", image, live=False)
    assert push(queue, "a", "a1") == ["g2"]
    queue.release("g")
    assert drained(queue) == ["a1", "g3"]


def test_a_client_with_large_images_gives_way_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_queue, "MAX_BYTES", 10)
    queue = ImageQueue[str]()
    for image in ("g1", "g2"):
        push(queue, "g", image, live=False, size=5)
    assert push(queue, "a", "a1", size=2) == ["g1"]
    with pytest.raises(QueueFullError):
        push(queue, "b", "b1", size=6)
    assert push(queue, "b", "b1", size=3) == []
    assert drained(queue) == ["g2", "a1", "b1"]


@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["live", "plain", "pop", "release"]))),
    max_images=st.sampled_from([3, 256]),
)
def test_every_image_is_processed_refused_or_displaced_once_in_order(
    steps: list[tuple[str, str]], max_images: int
) -> None:
    queue = ImageQueue[str]()
    ended: list[str] = []  # displaced and refused
    processed: list[str] = []
    busy: set[str] = set()
    waiting: list[str] = []
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(image_queue, "MAX_IMAGES", max_images)
        for number, (key, step) in enumerate(steps):
            image = f"{key}{number}"
            if step == "pop" and (turn := queue.pop()) is not None:
                assert turn[0] not in busy
                busy.add(turn[1][0])
                processed.append(turn[1])
                waiting.remove(turn[1])
            elif step == "release" and key in busy:
                queue.release(key)
                busy.remove(key)
            elif step in {"live", "plain"}:
                own = sum(each[0] == key for each in waiting)
                try:
                    displaced = push(queue, key, image, live=step == "live")
                except QueueFullError:
                    displaced = [image]
                    assert not own
                    assert all(sum(each[0] == other for each in waiting) <= 1 for other in "abc")
                ended += displaced
                waiting = [each for each in (*waiting, image) if each not in displaced]
                assert len(waiting) <= max_images
    for key in busy:
        queue.release(key)
    processed += drained(queue)
    pushed = [f"{key}{number}" for number, (key, step) in enumerate(steps) if step in {"live", "plain"}]
    assert sorted(processed + ended) == sorted(pushed)
    for key in "abc":
        numbers = [int(image[1:]) for image in processed if image[0] == key]
        assert numbers == sorted(numbers)
