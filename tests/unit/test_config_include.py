"""Files that `include` of cameras.yaml names: their cameras, their problems, their limits and their changes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from nvision_hub import cli
from nvision_hub.cli.options import complete_camera
from nvision_hub.cluster.ray.split_config import split_config
from nvision_hub.config import included_files
from nvision_hub.config.include_pattern import IncludePattern, file_fingerprint
from nvision_hub.config.load import as_written, load, patterns_of, resolved
from nvision_hub.config.source_text import MAX_FILE_BYTES
from nvision_hub.errors import ConfigError
from nvision_hub.export import kubernetes, source_config
from nvision_hub.hub.secret_variables import _referenced

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.config.models import Config

NORTH = 'cameras:\n  - {id: north, url: "rtsp://10.0.0.5/"}\n'
SOUTH = "cameras:\n  - {id: south, url: demo://street}\n"
INCLUDE = "include: cameras.d/*.yaml\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NVISION_HUB_CONFIG", raising=False)
    Path("cameras.d").mkdir()


def write(main: str, **files: str) -> Path:
    """Write cameras.yaml and files of cameras.d, by name without the suffix."""
    path = Path("cameras.yaml")
    path.write_text(main)
    for name, text in files.items():
        Path("cameras.d", f"{name}.yaml").write_text(text)
    return path


def ids(config: Config) -> list[str]:
    return [camera.id for camera in config.cameras]


def problems(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    return str(caught.value)


def test_included_cameras_follow_in_the_order_of_the_files() -> None:
    Path("cameras.d", ".draft.yaml").write_text("not: read\n")
    Path("cameras.d", "notes.txt").write_text("not: read\n")
    path = write(f"{INCLUDE}cameras: [{{id: own, url: 'usb:0'}}]\n", b=SOUTH, a=NORTH)
    assert ids(load(path)) == ["own", "north", "south"]


def test_several_patterns_read_each_file_once() -> None:
    path = write("include: [more.yaml, cameras.d/*, './cameras.d/[ab].yaml']\n", a=NORTH)
    Path("more.yaml").write_text(SOUTH)
    assert ids(load(path)) == ["north", "south"]


def test_variables_and_defaults_apply_to_included_cameras() -> None:
    Path("secret").write_text("word-in-file\n")
    entry = '{id: a, url: "rtsp://10.0.0.5/", username: "${NAME}", password: "${file:secret}"}'
    path = write(f"{INCLUDE}defaults: {{fps: 2, labels: {{floor: 1}}}}\n", a=f"cameras: [{entry}]\n")
    camera = load(path, environ={"NAME": "viewer"}).camera("a")
    assert camera.address.dial() == "rtsp://viewer:word-in-file@10.0.0.5/"
    assert camera.fps == 2
    assert dict(camera.labels) == {"floor": "1"}


def test_a_webhook_may_name_an_included_camera() -> None:
    webhook = f"{{id: w, url: 'https://example.com', secret: whsec_{'A' * 32}, cameras: [north]}}"
    assert ids(load(write(f"{INCLUDE}webhooks: [{webhook}]\n", a=NORTH))) == ["north"]


def test_a_camera_added_at_run_time_replaces_an_included_one() -> None:
    config = load(write(INCLUDE, a=NORTH, b=SOUTH), also=[{"id": "north", "url": "demo://parking"}])
    assert ids(config) == ["south", "north"]
    assert config.camera("north").url.shown == "demo://parking"


def test_without_matching_files_the_hub_has_no_cameras(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(INCLUDE)
    assert ids(load(path)) == []
    assert ids(load(path, also=[{"id": "added", "url": "demo://street"}])) == ["added"]
    assert cli.main(["check"]) == 0
    warning = "warning: cameras.yaml: include: no file matches cameras.d/*.yaml, so it adds no camera"
    assert warning in " ".join(capsys.readouterr().err.split())
    assert ids(load(write("include: missing/*.yaml\n"))) == []


@pytest.mark.parametrize("main", ["include:\n", "include: []\n", "include:\ncameras: []\n"])
def test_without_patterns_cameras_are_required(main: str) -> None:
    assert "cameras: is missing or empty" in problems(write(main))


def test_problems_name_the_file_and_the_place_in_it() -> None:
    first = "cameras:\n  - {id: own, url: demo://street, fsp: 1}\n"
    second = 'cameras:\n  - {id: own, url: "${UNSET}"}\n  - url: demo://nowhere\n    !x fps: 0\n'
    path = write(f"{INCLUDE}defaults: {{fps: 0}}\n{first}", a=first, b=second)
    assert [line.partition("; ")[0] for line in problems(path).splitlines()] == [
        "cameras.yaml:2:17: defaults.fps: must be a number above 0 and at most 60",
        "cameras.yaml:4:35: cameras[0].fsp: unknown key",
        "cameras.d/a.yaml:2:10: cameras[0].id: duplicates the id on line 4 of cameras.yaml",
        "cameras.d/a.yaml:2:35: cameras[0].fsp: unknown key",
        "cameras.d/b.yaml:2:10: cameras[0].id: duplicates the id on line 4 of cameras.yaml",
        "cameras.d/b.yaml:2:20: cameras[0].url: the environment variable UNSET is not set",
        "cameras.d/b.yaml:3:5: cameras[1].id: is missing",
        "cameras.d/b.yaml:3:10: cameras[1].url: must be demo://street, demo://crossing or demo://parking",
        "cameras.d/b.yaml:4:5: has a `!` tag, which has no meaning here",
        "cameras.d/b.yaml:4:13: cameras[1].fps: must be a number above 0 and at most 60",
    ]


def test_a_duplicate_in_one_file_is_reported_without_its_name() -> None:
    twice = "cameras:\n  - {id: a, url: demo://street}\n  - {id: a, url: demo://street}\n"
    assert "cameras.d/a.yaml:3:10: cameras[1].id: duplicates the id on line 2; " in problems(write(INCLUDE, a=twice))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ": is empty; write `cameras:` with its cameras, or remove the file"),
        ("# nothing\n", ": is empty"),
        ("- a\n", ":1:1: must consist of `cameras:` and a list of cameras"),
        ("{}\n", ":1:1: cameras: is missing"),
        ("camera: []\n", ":1:1: camera: unknown key in an included file; did you mean `cameras`?"),
        (f"fps: 2\n{NORTH}", ":1:1: fps: unknown key in an included file; write only `cameras:` here, and all other"),
        (f"{INCLUDE}{NORTH}", ":1:1: include: unknown key in an included file"),
        ("cameras: {a: 1}\n", ":1:10: cameras: must be a list"),
        ("cameras: [\n", ":2:1: is not valid YAML"),
        ("cameras: [*other]\n", ":1:11: is a `*` alias with no `&` anchor above it"),
        ("cameras: []\n---\n", ":2:1: is a second document"),
    ],
)
def test_an_included_file_has_only_cameras(text: str, problem: str) -> None:
    assert f"cameras.d/a.yaml{problem}" in problems(write(INCLUDE, a=text, b=SOUTH))


def test_all_unreadable_files_are_reported_together() -> None:
    found = problems(write(f"{INCLUDE}webhooks: [{{cameras: [a]}}]\n", a="", b="cameras: [", c=SOUTH)).splitlines()
    assert [line.partition(":")[0] for line in found] == ["cameras.d/a.yaml", "cameras.d/b.yaml"]


def test_an_empty_list_is_accepted() -> None:
    assert ids(load(write(INCLUDE, a="cameras:\n", b="cameras: []\n", c=SOUTH))) == ["south"]


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("/etc/cameras.yaml", "is outside the folder of cameras.yaml; write a pattern relative to that folder"),
        ("~/cameras.yaml", "is outside the folder"),
        ("../*.yaml", "is outside the folder"),
        ("a/../../*.yaml", "is outside the folder"),
        ("sites/*/cameras.yaml", "has a wildcard outside the file name; write a list with one pattern for each folder"),
        ("**/*.yaml", "has a wildcard outside the file name"),
        ("cameras.d/", "must name files; write a pattern such as cameras.d/*.yaml"),
        ("", "must name files"),
        ("cameras.d/..", "must name files"),
        ("a\\tb.yaml", "contains a control character"),
        ("${DIR:-cameras.d}/*.yaml", "must not contain a reference; write the pattern itself"),
        ("c*.yaml", "matches cameras.yaml itself; move the included files into a folder of their own"),
    ],
)
def test_patterns_stay_in_the_folder_of_the_file(pattern: str, problem: str) -> None:
    path = write(f'include: ["{pattern}"]\ncameras: [{{id: a, url: demo://street}}]\n')
    found = problems(path)
    assert found.startswith(("cameras.yaml:1:10: include", "cameras.yaml:1:11: include[0]"))
    assert problem in found


@pytest.mark.parametrize("main", ["include: {a: b.yaml}\n", "include: [[b.yaml]]\n", "include: [null]\n"])
def test_include_of_another_type_is_rejected(main: str) -> None:
    assert "cameras.yaml:1:" in problems(write(f"{main}cameras: [{{id: a, url: demo://street}}]\n"))


def test_links_are_followed_but_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "real").write_text(NORTH)
    link = Path("cameras.d", "a.yaml")
    link.symlink_to(tmp_path / "data" / "real")
    assert ids(load(write(INCLUDE))) == ["north"]
    (tmp_path / "data" / "real").unlink()
    assert problems(write(INCLUDE)).startswith("cameras.d/a.yaml: there is no such file; remove the link")
    link.unlink()
    link.symlink_to("../cameras.yaml")
    assert "include: matches cameras.yaml itself" in problems(write(INCLUDE))
    link.unlink()
    os.mkfifo(link)
    assert problems(write(INCLUDE)).startswith("cameras.d/a.yaml: is not a regular file")
    link.unlink()
    link.mkdir()
    assert problems(write(INCLUDE)).startswith("cameras.d/a.yaml: is not a regular file")


def test_an_unreadable_folder_is_an_error_and_not_an_empty_folder() -> None:
    Path("loop").symlink_to("loop")
    assert "include: the folder cannot be read: " in problems(write("include: loop/*.yaml\n"))


@pytest.mark.parametrize("name", ["a\nb.yaml", b"a\xff.yaml"])
def test_a_file_name_that_is_unsafe_to_show_is_rejected(name: str | bytes) -> None:
    Path(os.fsdecode(b"cameras.d"), os.fsdecode(name)).write_text(NORTH)
    assert "include: matches a file whose name contains a control character" in problems(write(INCLUDE))


def test_the_numbers_of_patterns_and_files_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cameras.yaml:1:10: include: " in problems(write(f"include: {json.dumps(['a.yaml'] * 101)}\n"))
    monkeypatch.setattr(included_files, "MAX_INCLUDED_FILES", 1)
    assert "include: matches more than 1 files" in problems(write(INCLUDE, a=NORTH, b=SOUTH))


def test_the_size_of_all_files_together_is_limited() -> None:
    half = f"{SOUTH}# {'x' * (MAX_FILE_BYTES // 2)}\n"
    assert ids(load(write(INCLUDE, a=half))) == ["south"]
    found = problems(write(f"{INCLUDE}# {'x' * (MAX_FILE_BYTES // 2)}\n", a=half, b=SOUTH))
    assert (
        found
        == f"cameras.d/a.yaml: exceeds the maximum of {MAX_FILE_BYTES} bytes for cameras.yaml and its included files"
    )


def test_aliases_expand_to_a_limited_number_of_values_in_all_files_together() -> None:
    bomb = "cameras:\n" + "".join(
        f"  - &a{level} [{', '.join([f'*a{level - 1}'] * 10 if level else ['x'] * 10)}]\n" for level in range(5)
    )
    found = problems(write(INCLUDE, a=bomb, b=bomb))
    assert "cameras.d/b.yaml:1:1: cameras.yaml and its included files expand to more than 200000 values" in found


def test_the_fingerprint_changes_with_every_file() -> None:
    path = write(INCLUDE, a=NORTH)
    patterns = patterns_of(path)
    assert patterns == (IncludePattern("cameras.d", "*.yaml"),)
    seen = [file_fingerprint(path, patterns)]
    assert file_fingerprint(path, patterns) == seen[0]
    steps: list[Callable[[], object]] = [
        lambda: write(INCLUDE, b=SOUTH),
        lambda: write(INCLUDE, b=NORTH + SOUTH),
        lambda: Path("cameras.d", "b.yaml").chmod(0o400),
        lambda: Path("cameras.d", "b.yaml").rename("cameras.d/c.yaml"),
        Path("cameras.d", "c.yaml").unlink,
        lambda: Path("cameras.d", "d.yaml").symlink_to("nowhere"),
        lambda: Path("cameras.d").rename("elsewhere"),
        lambda: Path("cameras.d").symlink_to("cameras.d"),
        path.unlink,
    ]
    for step in steps:
        step()
        found = file_fingerprint(path, patterns)
        assert found != seen[-1]
        seen.append(found)
    assert seen[-1] is None
    assert patterns_of(path) is None


def test_programs_that_read_the_file_as_written_find_the_included_cameras() -> None:
    path = write(INCLUDE, a='cameras: [{id: lobby, url: "rtsp://10.0.0.5/", password: "${LOBBY}"}]\n')
    assert _referenced(path)[0] == {"LOBBY"}
    assert complete_camera(SimpleNamespace(params={}), SimpleNamespace(), "lo") == ["lobby"]  # type: ignore[arg-type]
    assert as_written(path)[0].plain()["cameras"][0]["password"] == "${LOBBY}"
    assert resolved(path, environ={"LOBBY": "word"}).plain()["cameras"][0]["password"] == "word"


SHARED = f"{INCLUDE}redis: {{url: 'redis://redis'}}\ngateway: {{listen: none}}\n"


def test_each_group_of_a_cluster_contains_its_included_cameras() -> None:
    path = write(SHARED, a=NORTH, b='cameras: [{id: c, url: "rtsp://10.0.0.6/"}]\n')
    split = split_config(path.absolute(), {})
    contents = [json.loads(spec.text) for spec in split.specs.values()]
    assert sorted(camera["id"] for content in contents for camera in content["cameras"]) == ["c", "north"]
    assert not any("include" in content for content in contents)


def test_a_cluster_needs_a_camera() -> None:
    path = write(SHARED)
    with pytest.raises(ConfigError, match="cameras: no file that `include` names contains a camera"):
        split_config(path, {})
    with pytest.raises(ConfigError, match="cameras: no file that `include` names contains a camera"):
        kubernetes.render(source_config.read(path), (), kubernetes.PodOptions(image="hub"))


def test_an_export_finds_the_secrets_of_included_files() -> None:
    path = write(f"{INCLUDE}{SOUTH}", a='cameras: [{id: lobby, url: "rtsp://10.0.0.5/", password: hunter2}]\n')
    source = source_config.read(path)
    (literal,) = source.literals
    assert (literal.where, literal.key) == ("cameras.d/a.yaml:1:58", "cameras[0].password")
    assert literal.name == "CAMERA_LOBBY_PASSWORD"
    assert "hunter2" not in str(source.data)


def test_check_lists_the_included_files(capsys: pytest.CaptureFixture[str]) -> None:
    write(INCLUDE, a=NORTH, b=SOUTH)
    assert cli.main(["check"]) == 0
    assert "include   2 files: cameras.d/a.yaml, cameras.d/b.yaml\n" in capsys.readouterr().out
    assert cli.main(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["included_files"] == ["cameras.d/a.yaml", "cameras.d/b.yaml"]
