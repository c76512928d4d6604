"""Reports that the local service is slower than its clients."""

from __future__ import annotations

from workers.local_service.overload import FIRST_REPORT_S, NEXT_REPORT_S, OverloadMonitor, OverloadReport


def reports(monitor: OverloadMonitor, begin: int, end: int, images: int = 0) -> list[tuple[int, OverloadReport]]:
    """Skip every second image, with two images a second. Return each report, and its second."""
    found = []
    for second in range(begin, end):
        images += 2
        if report := monitor.skip(float(second), images):
            found.append((second, report))
    return found


def test_a_short_overload_is_not_reported() -> None:
    assert reports(OverloadMonitor(), 0, round(FIRST_REPORT_S)) == []


def test_a_lasting_overload_is_reported_soon_and_then_rarely() -> None:
    found = reports(OverloadMonitor(), 100, 1000)
    assert [second for second, _ in found] == [110, 410, 710]
    assert found[0][1] == OverloadReport(images=21, skipped=11, seconds=FIRST_REPORT_S)
    assert found[1][1] == OverloadReport(images=600, skipped=300, seconds=NEXT_REPORT_S)


def test_a_new_overload_is_reported_soon_again() -> None:
    monitor = OverloadMonitor()
    assert [second for second, _ in reports(monitor, 0, 20)] == [10]
    assert [second for second, _ in reports(monitor, 1000, 1020)] == [1010]


def test_several_overloads_are_not_reported_more_often_than_one() -> None:
    monitor = OverloadMonitor()
    found = [second for begin in range(0, 900, 50) for second, _ in reports(monitor, begin, begin + 20)]
    assert found == [10, 310, 610]


def test_rarely_skipped_images_are_no_overload() -> None:
    monitor = OverloadMonitor()
    assert [monitor.skip(at, round(16 * at) + 1) for at in (0.0, 250.0, 500.0, 511.0, 1000.0)] == [None] * 5


def test_a_report_begins_with_its_overload() -> None:
    monitor = OverloadMonitor()
    assert monitor.skip(0.0, 1) is None
    assert monitor.skip(200.0, 3201) is None
    assert monitor.skip(206.0, 3297) is None
    assert monitor.skip(212.0, 3393) == OverloadReport(images=193, skipped=3, seconds=12.0)
