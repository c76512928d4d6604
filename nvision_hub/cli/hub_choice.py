"""Choice of the running hub for a command, without reading cameras.yaml.

`--site` and `--state-dir` choose a hub on this machine, and `--url` chooses a hub on any machine. Without these
options, a command uses the hub that was started with the file in `--config`, or by default with cameras.yaml in the
current folder. If that folder has no cameras.yaml, the command uses the only hub on this machine. A command reads
cameras.yaml only if it finds no running hub. The hub may then be of an older version, or may run on other machines.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from nvision_hub.access.audit_log import user_name
from nvision_hub.cli.cluster_gateway import cluster_endpoints
from nvision_hub.cli.options import CONFIG_VARIABLE, DEFAULT_CONFIG, configured_state_dir
from nvision_hub.config.load import load
from nvision_hub.control_characters import printable
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.hub.running_hubs import running_hubs
from nvision_hub.hub.state_dir import Endpoints, read_endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nvision_hub.config.models import Config

URL_VARIABLE: Final = "NVISION_HUB_URL"
TOKEN_VARIABLE: Final = "NVISION_HUB_TOKEN"  # noqa: S105 - the name of a variable
_PARAMETERS: Final = ("site", "directory", "url", "config_path")  # names of the parameters that choose a hub
_PICK: Final = "choose one with --site or --state-dir"


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """Options that choose a hub. `config` is None if the command line does not name a file."""

    site: str | None = None
    state_dir: Path | None = None
    url: str | None = None
    config: Path | None = None

    @property
    def file(self) -> Path | None:
        """The file in `--config`, or else cameras.yaml in the current folder.

        None if neither exists, or if another option chooses the hub, because that hub may use another file.
        """
        if self.config is not None:
            return self.config
        if self.site is not None or self.state_dir is not None or self.url is not None:
            return None
        default = Path(DEFAULT_CONFIG)
        return default if default.exists() else None


@dataclass(frozen=True, kw_only=True)
class RunningHub:
    """A running hub. `config` is None unless the command reaches the hub through the settings in cameras.yaml."""

    endpoints: Endpoints
    config: Config | None = None
    is_remote: bool = False  # whether the command reaches the hub by --url


def hub_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a hub to a command. The command receives them as `chosen`."""

    @functools.wraps(function)
    def wrapped(
        *arguments: Any,
        site: str | None,
        directory: Path | None,
        url: str | None,
        config_path: Path | None,
        **more: Any,
    ) -> Any:
        context = click.get_current_context()
        given = {"--site": site, "--state-dir": directory, "--url": url, "--config": config_path}
        typed = [
            option for option, name in zip(given, _PARAMETERS, strict=True)
            if given[option] and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        ]  # fmt: skip
        if len(typed) > 1:
            raise click.UsageError(f"{' and '.join(typed)} exclude each other; use one of them")
        if typed:  # an option on the command line takes precedence over variables
            site, directory, url, config_path = (value if option in typed else None for option, value in given.items())  # type: ignore[assignment]
        return function(
            *arguments, chosen=HubOptions(site=site, state_dir=directory, url=url, config=config_path), **more
        )

    options = (
        click.option("--site", metavar="SITE", help="Use the hub of this machine with this site."),
        click.option(
            "--state-dir", "directory", metavar="DIR", type=click.Path(path_type=Path),
            help="Use the hub of this machine with this state directory.",
        ),
        click.option(
            "--url", metavar="URL", envvar=URL_VARIABLE,
            help=f"Use the hub at this address, with the token in {TOKEN_VARIABLE}.  [env: {URL_VARIABLE}]",
        ),
        click.option(
            "--config", "config_path", metavar="FILE", type=click.Path(path_type=Path), envvar=CONFIG_VARIABLE,
            help=f"Use the hub that runs from this file.  [env: {CONFIG_VARIABLE}]",
        ),
    )  # fmt: skip
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), wrapped)


def find_hub(chosen: HubOptions) -> RunningHub:
    """Return the chosen hub.

    Raises `UnavailableError` if the hub does not run, and `UsageError` if several hubs match.
    """
    if chosen.url is not None:
        site = redis = prefix = ""  # the hub reports these values
        remote = Endpoints(
            pid=0, site=site, redis=redis, prefix=prefix, service=None, demo=None, gateway=chosen.url.rstrip("/")
        )
        return RunningHub(endpoints=remote, is_remote=True)
    if chosen.state_dir is not None:
        return RunningHub(endpoints=_in_state_dir(chosen.state_dir))
    hubs = running_hubs()
    if chosen.site is None and (file := chosen.file) is not None:
        matching = [hub for hub in hubs if _runs_from(hub, file)]
        return RunningHub(endpoints=only_hub(matching)) if matching else _configured(file, hubs)
    matching = [hub for hub in hubs if chosen.site in {None, hub.site}]
    if not matching:
        what = "no hub" if chosen.site is None else f"no hub with the site {chosen.site}"
        raise UnavailableError(f"{what} runs on this machine as {user_name()}{_others(hubs)}")
    return RunningHub(endpoints=only_hub(matching))


def find_state_dir(chosen: HubOptions) -> Path:
    """Return the state directory of the chosen hub, even if the hub is not running.

    Raises `UsageError` for a hub on another machine, and `HubError` if no hub is found.
    """
    if chosen.state_dir is not None:
        return chosen.state_dir
    if chosen.url is not None:
        raise click.UsageError("the files of a hub on another machine cannot be read; run the command on that machine")
    try:
        hub = find_hub(chosen)
    except UnavailableError:
        if chosen.site is not None or chosen.file is None:
            raise
        return configured_state_dir(chosen.file)
    if hub.endpoints.state_dir is None and hub.config is not None:
        return hub.config.state_dir
    return Path(str(hub.endpoints.state_dir))


def only_hub(hubs: Sequence[Endpoints]) -> Endpoints:
    """Return the only hub in `hubs`. If there are several, raises a `UsageError` that lists them."""
    if len(hubs) > 1:
        raise click.UsageError(f"several hubs match; {_PICK}:\n{_listed(hubs)}")
    return hubs[0]


def _in_state_dir(folder: Path) -> Endpoints:
    try:
        (folder / "hub.json").open("rb").close()
    except PermissionError as error:
        raise not_admitted(folder) from error
    except OSError:
        pass
    endpoints = read_endpoints(folder)
    if endpoints is None:
        raise UnavailableError(f"no hub is running with the state_dir {folder}; `nvision-hub ps` lists the hubs")
    return endpoints


def not_admitted(folder: Path) -> HubError:
    """Return the error for a hub that belongs to another user."""
    return HubError(f"{user_name()} may not use the hub in {folder}; run the command as root or as the hub's own user")


def _runs_from(hub: Endpoints, file: Path) -> bool:
    try:
        return hub.config is not None and file.samefile(hub.config)
    except OSError:
        return hub.config == str(file.absolute())


def _configured(file: Path, hubs: Sequence[Endpoints]) -> RunningHub:
    """Find a hub through its cameras.yaml. Raises `ConfigError`, or `UnavailableError` if no hub is found."""
    config = load(file)
    endpoints = read_endpoints(config.state_dir)
    if endpoints is not None and endpoints.control is not None:
        return RunningHub(endpoints=endpoints)
    endpoints = endpoints or cluster_endpoints(config)
    if endpoints is None:
        raise UnavailableError(
            f"no hub is running with the state_dir of {config.path.name} ({config.state_dir}); run nvision-hub start"
            f"{_others(hubs) if hubs else ''}"
        )
    return RunningHub(endpoints=endpoints, config=config)


def _others(hubs: Sequence[Endpoints]) -> str:
    if not hubs:
        return "; start one, run the command as the hub's own user or as root, or use --url"
    return f"; {_PICK}, or start this one. Running now:\n{_listed(hubs)}"


def _listed(hubs: Iterable[Endpoints]) -> str:
    return "\n".join(printable(f"  --site {hub.site}  --state-dir {hub.state_dir}  (pid {hub.pid})") for hub in hubs)
