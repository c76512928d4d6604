"""Tokens: strength, hashes, roles, the store of created tokens, and the lines of the audit log."""

from __future__ import annotations

import base64
import json
import random
import stat
import uuid
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from nvision_hub.access import audit_log
from nvision_hub.access.audit_log import AuditEntry
from nvision_hub.access.token_store import TokenStore
from nvision_hub.access.tokens import MIN_BITS, ROLES, includes, new_token, token_digest, weakness
from nvision_hub.cli.commands.audit import audit
from nvision_hub.errors import HubError
from nvision_hub.redaction import register_secrets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BYTES = MIN_BITS // 8
RANDOM = random.Random()  # noqa: S311 - with a fixed seed, because one random token of 100,000 looks like words


@pytest.mark.parametrize(
    "generate",
    [
        lambda: RANDOM.randbytes(BYTES).hex(),
        lambda: RANDOM.randbytes(32).hex().upper(),
        lambda: base64.urlsafe_b64encode(RANDOM.randbytes(BYTES)).decode().rstrip("="),
        lambda: base64.b64encode(RANDOM.randbytes(BYTES)).decode(),
        lambda: base64.b32encode(RANDOM.randbytes(BYTES)).decode().rstrip("="),
        lambda: str(uuid.UUID(bytes=RANDOM.randbytes(16), version=4)),
        new_token,
    ],
    ids=["hex", "HEX", "urlsafe", "base64", "base32", "uuid", "new_token"],
)
def test_tokens_of_random_generators_are_accepted(generate: Callable[[], str]) -> None:
    RANDOM.seed(0)
    assert [token for token in (generate() for _ in range(200)) if weakness(token) is not None] == []


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("", "128 bits"),
        ("x", "128 bits"),
        ("hunter2", "128 bits"),
        ("1234567890123456789012345678901", "128 bits"),
        ("5f2c8a1e9b7d40336c1fa8e2d9047b", "128 bits"),
        ("hGju4zGRCA7xFTHhjOou", "128 bits"),
        ("correcthorsebatterystaplecorrect", "128 bits"),
        ("correct-horse-battery-staple-and-more", "128 bits"),
        ("CorrectHorseBatteryStaple", "128 bits"),
        ("Correct-Horse-Battery-Staple-And-More", "128 bits"),
        ("a" * 64, "guessed"),
        ("0123456789abcdef" * 2, "guessed"),
        ("fedcba9876543210" * 2 + "f", "guessed"),
        ("abcdefghijklmnopqrstuvwxyz0123456789", "guessed"),
        ("changeme" * 20, "guessed"),
        ("Change-Me-Gateway-Admin-Token-1", "guessed"),
        ("MySecretPassword2026", "128 bits"),
        ("NvisionGatewayAdminPassword2026!", "guessed"),
        ("0f" * 32, "guessed"),
        ("5f2c8a1e9b7d40336c1fa8e2d9047b86 ", "visible"),
        ("é" * 40, "visible"),
        ("5f2c8a1e9b7d40336c1fa8e2d9047b86" * 40, "at most"),
    ],
)
def test_short_and_guessable_tokens_are_weak(token: str, problem: str) -> None:
    found = weakness(token)
    assert found is not None
    assert problem in found


def test_each_role_includes_those_before_it() -> None:
    for index, role in enumerate(ROLES):
        assert [required for required in ROLES if includes(role, required)] == list(ROLES[: index + 1])


def test_the_store_keeps_hashes_only(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "state")
    assert store.read() == ()
    assert not store.has_permanent()
    before = store.fingerprint()
    token = store.create("ops", "control")
    assert store.fingerprint() != before
    (stored,) = store.read()
    assert (stored.name, stored.role, stored.sha256) == ("ops", "control", token_digest(token))
    assert token not in store.path.read_text()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    with pytest.raises(HubError, match="a token called ops exists"):
        store.create("ops", "admin")
    assert store.revoke("ops")
    assert not store.revoke("ops")
    assert store.read() == ()


def test_expired_tokens_are_invalid_and_removed_by_the_next_change(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    store.create("cli:alice", "admin", expires_at=1.0)
    assert not store.read()[0].is_valid(now=1.0)
    assert not store.has_permanent()
    token = store.create("ops", "view")
    assert [each.name for each in store.read()] == ["ops"]
    store.discard(token)
    assert store.read() == ()


STORED = f'{{"tokens": [{{"name": "x", "role": "view", "sha256": "{"a" * 64}", "created_at": %s}}]}}'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"version": 2}',
        '{"tokens": [{"name": "x"}]}',
        "\x00",
        STORED % "1e300",
        STORED % "NaN",
        STORED % "-1",
    ],
)
def test_a_damaged_store_is_an_error(tmp_path: Path, content: str) -> None:
    store = TokenStore(tmp_path)
    store.path.write_text(content)
    with pytest.raises(HubError, match="is damaged"):
        store.read()


def test_an_audit_line_is_one_line_without_secrets() -> None:
    register_secrets(["CanarySecretValue"])
    entry = AuditEntry(
        action="PUT /x\r\n\x1b[31m\x7f\u2028CanarySecretValue",
        outcome="refused",
        actor="a" * 1000,
        values={"fps": 2, "note": "CanarySecretValue"},
    )
    line = entry.line(at=0.0)
    assert "Canary" not in line
    assert line.isprintable()
    assert line.isascii()
    parsed = json.loads(line)
    assert parsed["at"] == "1970-01-01T00:00:00.000Z"
    assert parsed["values"] == {"fps": 2, "note": "***"}
    assert len(parsed["actor"]) == audit_log.MAX_TEXT
    assert "camera" not in parsed


def test_the_audit_command_shows_an_impossible_time_as_written(tmp_path: Path) -> None:
    audit_log.append(tmp_path, ['{"at":"0001-01-01T00:00:00+23:00","action":"x","outcome":"done"}'])
    shown = CliRunner().invoke(audit, ["--state-dir", str(tmp_path)])
    assert shown.exit_code == 0
    assert shown.output.startswith("0001-01-01T00:00:00+23:00 ")


def test_the_audit_log_is_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MAX_FILE_BYTES", 1000)
    for number in range(100):
        audit_log.append(tmp_path, [f"{number:0>99}"])
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["audit.jsonl", "audit.jsonl.1", "audit.lock"]
    assert sum((tmp_path / name).stat().st_size for name in files) <= 2000
    assert (tmp_path / "audit.jsonl").read_text().splitlines()[-1] == f"{99:0>99}"
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in files} == {0o600}
