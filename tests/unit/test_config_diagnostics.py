"""Diagnostics of an invalid cameras.yaml: all problems at once, with location and fix."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nvision_hub.config.load import load
from nvision_hub.errors import EXIT_CONFIG, ConfigError

GOOD = "cameras:\n  - id: a\n    url: demo://street\n"

MANY = """\
sit: demo
nvision:
  url: wss://nvision.nipa.cloud/api
  confidence_threshold: 2
gateway: {listen: "0.0.0.0:8080"}
defaults:
  jpeg_quality: 101
  nvsion: {}
cameras:
  - id: lobby
    fsp: 5
    url: rtps://10.0.0.5/stream1
  - id: lobby
    url: rtsp://viewer:p@ss@10.0.0.5/
    password: hunter2
    fps: 1000
    streaming_key: hunter2
    masks: [[[0, 0], [1, 2], [1, 1]], [[0, 0]]]
    when: allways
  - {id: A b, url: "usb:front", password:hunter2, fps: }
  - name: no id
    url: rtsp://viewer:${UNSET}@10.0.0.5/
    url: demo://street
webhooks:
  - id: x
    cameras: [loby]
    secret: hunter2
    url: ftp://example.com
"""

REPORT = """\
cameras.yaml:1:1: sit: unknown key; did you mean `site`?
cameras.yaml:3:3: nvision.streaming_key: is missing; copy the service's streaming key from the Nvision portal, \
or write `url: local` to use the service that comes with nvision-hub
cameras.yaml:4:25: nvision.confidence_threshold: must be a number from 0 to 1
cameras.yaml:5:19: gateway.listen: other machines can reach this address, and the connection is not encrypted; \
set `gateway.tls`, declare the reverse proxy in `gateway.proxy`, or write `gateway.insecure: true` if no attacker can \
read this network
cameras.yaml:5:19: gateway.listen: other machines can reach this address; set `gateway.token` or `gateway.tokens`, \
or create one with `nvision-hub token create`, or listen on 127.0.0.1
cameras.yaml:7:17: defaults.jpeg_quality: must be a whole number from 1 to 100
cameras.yaml:8:3: defaults.nvsion: unknown key; did you mean `nvision`?
cameras.yaml:11:5: cameras[0].fsp: unknown key; did you mean `fps`?
cameras.yaml:12:10: cameras[0].url: must begin with rtsp://, rtsps://, http://, https://, snapshot+http://, \
snapshot+https://, onvif://, onvifs://, usb:, file: or demo://; did you mean `rtsp://`?
cameras.yaml:13:9: cameras[1].id: duplicates the id on line 10; give each of the cameras a unique id
cameras.yaml:15:15: cameras[1].password: the password is also in `url`; give it once
cameras.yaml:16:10: cameras[1].fps: must be a number above 0 and at most 60
cameras.yaml:17:5: cameras[1].streaming_key: unknown key here; it belongs under `nvision:`
cameras.yaml:18:26: cameras[1].masks[0][1][1]: must be a number from 0 to 1
cameras.yaml:18:39: cameras[1].masks[1]: must be a list of 3 to 1000 items: lines that begin with `- `, or [a, b]
cameras.yaml:19:11: cameras[1].when: must be `always` or `motion`; did you mean `always`?
cameras.yaml:20:10: cameras[2].id: must be 1 to 63 lower-case letters, digits, - and _, and not begin with - or _, \
such as lobby-2; did you mean `a-b`?
cameras.yaml:20:20: cameras[2].url: must name a device, such as usb:0 or usb:/dev/video0
cameras.yaml:20:33: cameras[2].password…: unknown key; a space is missing after `password:`
cameras.yaml:20:55: cameras[2].fps: has no value; it must be a number above 0 and at most 60
cameras.yaml:21:5: cameras[3].id: is missing; add it, such as `id: lobby`
cameras.yaml:22:10: cameras[3].url: the environment variable UNSET is not set; set it, or write ${UNSET:-default}
cameras.yaml:23:5: `url` is given twice, first on line 22; remove one of the two
cameras.yaml:26:15: webhooks[0].cameras[0]: no camera has this id; did you mean `lobby`?
cameras.yaml:27:13: webhooks[0].secret: must be whsec_ followed by 24 to 64 bytes in base64; \
`echo whsec_$(openssl rand -base64 32)` creates one
cameras.yaml:28:10: webhooks[0].url: must begin with http:// or https://"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _lines(text: str | bytes) -> list[str]:
    path = Path("cameras.yaml")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    assert caught.value.exit_code == EXIT_CONFIG
    return str(caught.value).splitlines()


def test_all_problems_are_reported_in_the_order_of_the_file() -> None:
    assert "\n".join(_lines(MANY)) == REPORT


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "cameras.yaml: is empty; create one with `nvision-hub init`"),
        ("# nothing\n", "cameras.yaml: is empty"),
        ("- a\n", "cameras.yaml:1:1: must consist of `key: value` lines"),
        ("hello\n", "cameras.yaml:1:1: must consist of `key: value` lines"),
        ("site: a\n", "cameras.yaml:1:1: cameras: is missing or empty"),
        ("cameras:\n", "cameras.yaml:1:1: cameras: is missing or empty, so there is nothing to run; add a camera"),
        ("cameras: []\n", "cameras.yaml:1:10: cameras: is missing or empty"),
        ("cameras: {a: 1}\n", "cameras.yaml:1:10: cameras: must be a list"),
        ("cameras: [a]\n", "cameras.yaml:1:11: cameras[0]: must be a section"),
        ("cameras:\n  - id: a\n", "cameras.yaml:2:5: cameras[0].url: is missing; add it, such as `url: rtsp://"),
        (GOOD + "state_dir: ~no-user/hub\n", "cameras.yaml:4:12: state_dir: begins with ~, but there"),
        (GOOD + "\tfps: 1\n", "cameras.yaml:4:1: is not valid YAML: found a tab"),
        (GOOD + "   fps: 1\n", "cameras.yaml:4:4: is not valid YAML: found"),
        (GOOD + "    name: a: b\n", "cameras.yaml:4:12: is not valid YAML: found a second `key:`"),
        (
            GOOD + "    name: 'a\n",
            "cameras.yaml:4:11: is not valid YAML: found a quotation mark that is never closed",
        ),
        (GOOD + "    labels: [a\n", "cameras.yaml:4:13: is not valid YAML: found a list in [ ] that is not closed"),
        (
            GOOD + "    labels: {a: b\n",
            "cameras.yaml:4:13: is not valid YAML: found a mapping in { } that is not closed",
        ),
        (
            GOOD + "    labels: {a: ${B}}\n",
            "cameras.yaml:4:18: is not valid YAML: found a ${...} inside { }, which needs",
        ),
        (GOOD + "    fps 5\n", "is not valid YAML: found a key without its `: `"),
        (GOOD + "    name: @home\n", "cameras.yaml:4:11: is not valid YAML: found a character that cannot begin"),
        (GOOD + "    name: *\n", "is not valid YAML: found a `*` or `&` without a name"),
        (GOOD + "    name: a\x00b\n", "cameras.yaml:4:12: is not valid YAML: found a control character"),
        (GOOD.encode() + b"    name: caf\xe9\n", "cameras.yaml:4:14: is not UTF-8 text at this position"),
        (GOOD.encode("utf-16"), "cameras.yaml:1:1: is not UTF-8 text at this position"),
        (GOOD + "    fps: 0\n", "cameras.yaml:4:10: cameras[0].fps: must be a number above 0 and at most 60"),
        (GOOD + "    fps: -1\n", "must be a number above 0"),
        (GOOD + "    fps: nan\n", "must be a number above 0"),
        (GOOD + "    fps: fast\n", "must be a number above 0"),
        (GOOD + "    fps: [1]\n", "must be a number above 0"),
        (GOOD + "    jpeg_quality: 80.5\n", "must be a whole number from 1 to 100"),
        (GOOD + "redis: {stream_max_bytes: -1}\n", "must be a whole number from 1048576 to 1099511627776"),
        (GOOD + "    max_width: 5\n", "cameras[0].max_width: must be a whole number from 16 to 16384"),
        (GOOD + "    stall_timeout: 0\n", "must be a number above 0 and at most 3600"),
        (GOOD + "    transport: tpc\n", "must be `auto`, `tcp` or `udp`; did you mean `tcp`?"),
        (GOOD + "    hwaccel: vaapi\n", "must be `none`, `auto`, `cuda`, `qsv` or `drm`"),
        (GOOD + "    nvision: {output_cropped_image: maybe}\n", "must be true or false"),
        (GOOD + "    labels: [a]\n", "must be a section"),
        (GOOD + "    labels: {a: [b]}\n", "cameras.yaml:4:17: cameras[0].labels.a: must be text"),
        (GOOD + "    name: {a: b}\n", "cameras[0].name: must be text"),
        (
            GOOD + "    masks: [[[0, 0, 0], [1, 0], [1, 1]]]\n",
            "masks[0][0]: must be a list of 2 numbers, such as [0, 0.5]",
        ),
        (GOOD + "    username: u\n", "cameras[0].username: does not apply to a demo camera; remove it"),
        (
            GOOD + "    motion: {source: onvif}\n",
            "cameras.yaml:4:22: cameras[0].motion.source: does not apply to a demo camera; write the camera's onvif://",
        ),
        (
            "defaults: {motion: {source: onvif}}\n" + GOOD,
            "cameras.yaml:3:5: cameras[0].motion.source: does not apply to a demo camera; write the camera's onvif://",
        ),
        (
            "cameras: [{id: a, url: 'onvif://h', motion: {source: onvif, idle_fps: 1}}]",
            "cameras[0].motion.idle_fps: does not apply to motion that the camera reports (`source: onvif`); remove it",
        ),
        (
            GOOD + "    motion: {calm_after: 5}\n",
            "cameras.yaml:4:14: cameras[0].motion.calm_after: was renamed to `cooldown`; write `cooldown:` instead",
        ),
        (GOOD + "    wobble: 1\n", "cameras[0].wobble: unknown key; known here are fps, "),
        (GOOD + "    name: ${A-B}\n", "cameras[0].name: contains a `${` that is not a reference"),
        (GOOD + "    name: ${file:nowhere}\n", "the file nowhere cannot be read: No such file or directory"),
        (GOOD + "    name: ${file:.}\n", "the file . cannot be read: Is a directory"),
        (GOOD + "version: 2\n", "cameras.yaml:4:10: version: must be 1"),
        (GOOD + "site: ''\n", "site: must be text of 1 to 63 characters"),
        (GOOD + "redis: {prefix: 'a*'}\n", "redis.prefix: must be 1 to 64 letters"),
        (GOOD + "redis: {prefix: '{}'}\n", "redis.prefix: must be 1 to 64 letters"),
        (GOOD + "redis: {prefix: 'a{b}{c}'}\n", "redis.prefix: must be 1 to 64 letters"),
        (
            GOOD + "redis: {url: 'redis+cluster://10.0.0.2'}\n",
            'on one node of the Cluster; write `prefix: "{nvision}"`, and use this prefix in the programs that read',
        ),
        (
            GOOD + "redis: {url: 'redis+cluster://10.0.0.2', prefix: nv}\n",
            "cameras.yaml:4:50: redis.prefix: needs a hash tag",
        ),
        (
            GOOD + "redis: {url: 'redis://10.0.0.2', sentinel_password: word}\n",
            "redis.sentinel_password: applies only to the address of Sentinels; remove it, or write redis.url: redis+",
        ),
        (
            GOOD + "redis: {url: 'redis://10.0.0.2', tls: {ca_file: ca.pem}}\n",
            "redis.tls.ca_file: applies only to an encrypted connection; remove it, or write rediss://",
        ),
        (
            GOOD + "redis: {url: 'rediss://10.0.0.2', tls: {cert: hub.pem}}\n",
            "redis.tls.cert: needs `key` as well; set `redis.tls.key`, or remove `redis.tls.cert`",
        ),
        (GOOD + "redis: {url: 'http://10.0.0.2'}\n", "redis.url: must be `embedded` or begin with redis://"),
        (
            GOOD + "nvision: {url: 'https://nvision.nipa.cloud/api'}\n",
            "nvision.url: must be `local` or begin with ws:// or wss://",
        ),
        (GOOD + "gateway: {listen: 8080}\n", "gateway.listen: must be host:port"),
        (
            GOOD + "gateway: {listen: '[::]:80', token: '', insecure: true}\n",
            "gateway.listen: other machines can reach this address",
        ),
        (
            GOOD + "gateway: {listen: '0.0.0.0:80', proxy: {addresses: [10.0.0.2], user_header: null}}\n",
            "gateway.listen: other machines can reach this address; set `gateway.token`",
        ),
        (
            GOOD + "gateway: {listen: none, health_listen: '127.0.0.1:81'}\n",
            "gateway.health_listen: there is no gateway",
        ),
        (
            GOOD + "gateway: {listen: '127.0.0.1:80', health_listen: '0.0.0.0:80'}\n",
            "gateway.health_listen: is the port of `gateway.listen`; choose another port, such as 81",
        ),
        (GOOD + "defaults: {url: demo://street}\n", "defaults.url: unknown key"),
        (
            GOOD + "site: a\nsite: b\n",
            "cameras.yaml:5:1: `site` is given twice, first on line 4; remove one of the two",
        ),
        (GOOD + "<<: 1\n", "cameras.yaml:4:5: `<<` requires an alias of a mapping"),
        (GOOD.replace("demo://street", "file:/etc/passwd"), "cameras[0].url: is outside the folder of cameras.yaml"),
        (GOOD + "webhooks: [{id: w, url: 'https://x'}]\n", "webhooks[0].secret: is missing"),
        (GOOD + "webhooks: [{id: w, url: 'https://x', secret: []}]\n", "webhooks[0].secret: must be text"),
    ],
)
def test_each_mistake_is_reported_with_location_and_fix(text: str | bytes, problem: str) -> None:
    problems = _lines(text)
    assert len(problems) == 1, problems
    assert problem in problems[0]
    assert not re.search(
        r"Input|valid |pydantic|ruamel|<|None", problems[0].replace("not valid YAML", "").replace("<<", "")
    )


def test_a_problem_in_defaults_is_reported_once_for_any_number_of_cameras() -> None:
    problems = _lines(
        "defaults: {fps: 0, nvision: {url: wss://n.example}}\n" + GOOD + "  - {id: b, url: demo://street}\n"
    )
    assert [problem.split(": ")[1] for problem in problems] == ["defaults.fps", "defaults.nvision.streaming_key"]


def test_unreadable_files_are_reported_by_name(tmp_path: Path) -> None:
    for path, sentence in (
        (tmp_path / "none.yaml", "there is no such file; create one with `nvision-hub init`"),
        (tmp_path, "is a folder"),
        (tmp_path / "a\0b", "cannot be read"),
        (tmp_path / ("a" * 300), "cannot be read: File name too long"),
    ):
        with pytest.raises(ConfigError, match=sentence) as caught:
            load(path, environ={})
        assert str(caught.value).startswith(f"{path}: ")
