"""`token`: create, list and revoke tokens of the gateway. A running gateway needs no restart."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from nvision_hub.access.audit_log import append_command
from nvision_hub.access.token_store import TokenStore
from nvision_hub.access.tokens import ROLES, RoleName
from nvision_hub.cli.hub_choice import HubOptions, find_state_dir, hub_options
from nvision_hub.cli.options import examples, json_option, unknown_name
from nvision_hub.cli.terminal import columns, console, print_json
from nvision_hub.config.field_types import ID_PATTERN
from nvision_hub.config.load import load
from nvision_hub.errors import ConfigError
from nvision_hub.hub.state_dir import unwritable
from nvision_hub.timestamps import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIGURED: Final = "cameras.yaml"
_CREATED: Final = "token create"


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """One line of `token list`. `created_at` is None for a token from cameras.yaml."""

    name: str
    role: RoleName
    source: str
    created_at: str | None


def _name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not re.fullmatch(ID_PATTERN, value):
        raise click.BadParameter("must be 1 to 63 lower-case letters, digits, - and _, such as ops")
    return value


@click.group(
    epilog=examples(
        "nvision-hub token create prometheus --role metrics",
        "nvision-hub token list --json",
        "nvision-hub token revoke prometheus",
    )
)
def token() -> None:
    """Create, list and revoke tokens for the page, the API and the metrics.

    The hub keeps only a hash of each token, in its state directory. A running hub accepts a new token at once, and
    rejects a revoked one at once. Commands never change cameras.yaml, which may have tokens of its own.

    \b
    metrics  reads /metrics
    view     also reads the API, the page and previews
    control  also pauses, resumes, restarts and tunes cameras
    admin    also adds and removes cameras, and manages webhooks
    """  # noqa: D301 - \b keeps the line breaks of the list


@token.command()
@click.argument("name", callback=_name)
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the token allows.")
@hub_options
def create(name: str, role: RoleName, chosen: HubOptions) -> None:
    """Create a random token called NAME, and print it once."""
    folder = find_state_dir(chosen)
    store = TokenStore(folder)
    is_first = not store.has_permanent()
    created = store.create(name, role)
    _audit(folder, "token_create", token=name, role=role)
    print(created)
    err = console(stderr=True)
    err.print(f"This token with the role {role} is shown only now; store it safely.", style="dim")
    if is_first:
        err.print("From now on, the page, the API and the metrics require a token.", style="dim")


@token.command("list")
@hub_options
@json_option
def list_tokens(chosen: HubOptions, *, as_json: bool) -> None:
    """List the names and roles of all tokens, but not the tokens themselves."""
    stored = TokenStore(find_state_dir(chosen)).read()
    rows = [] if chosen.state_dir is not None or chosen.file is None else [*_configured(chosen.file)]
    rows += [
        TokenRow(name=each.name, role=each.role, source=_CREATED, created_at=iso_utc(each.created_at))
        for each in stored
        if each.expires_at is None
    ]
    if as_json:
        print_json({"tokens": [asdict(row) for row in rows]})
        return
    if not rows:
        console(stderr=True).print("There are no tokens.", style="dim")
        return
    table = [("name", "role", "from", "created")]
    for row in rows:
        at = "" if row.created_at is None else f"{datetime.fromisoformat(row.created_at).astimezone():%Y-%m-%d %H:%M}"
        table.append((row.name, row.role, row.source, at))
    heading, *lines = columns(table)
    out = console()
    out.print(heading, style="bold")
    for line in lines:
        out.print(line)


@token.command()
@click.argument("name")
@hub_options
def revoke(name: str, chosen: HubOptions) -> None:
    """Revoke the token called NAME. A running hub rejects it at once, and closes its live views."""
    folder = find_state_dir(chosen)
    store = TokenStore(folder)
    if not store.revoke(name):
        known = [each.name for each in store.read() if each.expires_at is None]
        raise unknown_name(f"`nvision-hub token` has created no token called {name!r}", name, known)
    _audit(folder, "token_revoke", token=name)
    print(f"{name} is revoked")
    if not store.has_permanent():
        console(stderr=True).print(
            "This was the last created token. Without a token in cameras.yaml, every program on this machine now has "
            "full access to a gateway on 127.0.0.1.",
            style="dim",
        )


def _configured(config_path: Path) -> Iterator[TokenRow]:
    """Yield the tokens of cameras.yaml; none if the file is invalid."""
    try:
        gateway = load(config_path).gateway
    except ConfigError:
        return
    if gateway.token:
        yield TokenRow(name="gateway.token", role="admin", source=_CONFIGURED, created_at=None)
    for name, each in gateway.tokens.items():
        yield TokenRow(name=name, role=each.role, source=_CONFIGURED, created_at=None)


def _audit(folder: Path, action: str, **facts: str) -> None:
    try:
        append_command(folder, action, **facts)
    except OSError as error:
        raise unwritable(folder, error) from error
