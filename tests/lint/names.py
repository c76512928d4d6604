"""Find class names that occur twice, and names that the vocabulary has retired."""

from __future__ import annotations

# ruff: noqa: SIM905 - a word list is easier to read and extend as text
import ast
from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.lint.files import Module

# Classes that share a name on purpose, each with the reason.
SHARED_CLASSES: Final[dict[str, str]] = {}

RETIRED_CLASSES: Final = frozenset(
    "Desk Asks Wish Try Bell Look Survey Finding Seat Promise Account News Greeting Reserve Guard Room Refusal Watch "
    "Briefing Viewing Sentry Turnstile Manuscript Mailbox Hold Lateness Retries Pace Child Link Usage Notify Part "
    "Renewal SelfReport ManagerNotes RunTime Vault Keeper Cut Backlog Outgoing Elsewhere Newsdesk Feed Watching Tally "
    "Track NoticeBoard Figures Intake Outlet Poster Settlement Admission OncePerSecond Repeats Reading".split()
)
RETIRED_FUNCTIONS: Final = frozenset(
    "heed heeded tell told note noted take taken knock greet shake_hands hang_up let_go bury buried mend begin_again "
    "start_anew bring_about owed may_be_owed looked look turned watch about renew wish answered_by stranger".split()
)
RETIRED_MODULES: Final = frozenset(
    """
    part link lifeline oversight serving usage costs grouping notify opencv child
    supervisor.briefing supervisor.decisions supervisor.loop supervisor.member
    hub.surroundings hub.manager_notes hub.not_yet hub.renewal hub.self_report hub.run_time hub.addresses
    broker.backlog broker.outgoing broker.deliveries broker.groups broker.fleet_records
    logs.outlet logs.repeats logs.reading logs.line
    engine render wire
    config.written config.wording config.problem config.tree config.suggestion
    cli.look cli.survey cli.fleet cli.checkup cli.running cli.live cli.cameras_yaml cli.broker_address
    camera.viewing camera.sentry camera.hold camera.luma camera.expansion camera.lateness camera.pace camera.turnstile
    camera.retries camera.refusal camera.dial camera.mailbox camera.source
    sources.torn sources.faults sources.authorization sources.read_limit sources.rtsp_handshake
    gateway.desk gateway.asks gateway.elsewhere gateway.shown gateway.tally gateway.track gateway.news gateway.feed
    gateway.watching gateway.pictures gateway.problems gateway.access gateway.page
    webhooks.bell webhooks.figures webhooks.guard webhooks.intake webhooks.outlet webhooks.poster webhooks.settlement
    webhooks.schedule mqtt.notice_board workers.service commands.service local_service.desk local_service.admission
    local_service.answers local_service.moving
    """.split()
)
# Functions that keep a retired name, each with the reason.
ALLOWED_FUNCTIONS: Final[dict[str, str]] = {}


def duplicate_classes(modules: Iterable[Module]) -> Iterator[str]:
    """Find classes with the same name. Such names are ambiguous in prose."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{module.path}:{node.lineno}")
    for name, where in places.items():
        if len(where) > 1 and name not in SHARED_CLASSES:
            yield f"{where[1]}: class {name} is also defined in {', '.join(where[:1] + where[2:])}"


def retired_names(modules: Iterable[Module]) -> Iterator[str]:
    """Find modules, classes and functions with retired names."""
    for module in modules:
        dotted = f".{module.name}"
        for retired in RETIRED_MODULES:
            package = f".nvision_hub.{retired}"
            if dotted.endswith(f".{retired}") if "." in retired else dotted == package:
                yield f"{module.path}:1: the module name {retired} is retired"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and node.name.lstrip("_") in RETIRED_CLASSES:
                yield f"{module.path}:{node.lineno}: the class name {node.name} is retired"
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = node.name.lstrip("_")
                if name in RETIRED_FUNCTIONS and f"{module.path}:{node.name}" not in ALLOWED_FUNCTIONS:
                    yield f"{module.path}:{node.lineno}: the function name {node.name} is retired"


def unused_allowances() -> Iterator[str]:
    """Find allowed names without a reason."""
    for name, reason in {**SHARED_CLASSES, **ALLOWED_FUNCTIONS}.items():
        if not reason:
            yield f"tests/lint/names.py:1: the exception {name} needs a reason"
