"""`tls` in cameras.yaml, and the certificates that the hub remembers for cameras with IP addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.load import load
from nvision_hub.config.tls_policy import TlsPolicy
from nvision_hub.errors import ConfigError
from nvision_hub.hub.composition import plan
from nvision_hub.hub.plan_warnings import tls_warning
from nvision_hub.media.sources.camera_trust import CertificateChangedError, KnownCertificates

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = "ab" * 32, "cd" * 32
CAMERA = CameraAddress.parse("rtsps://10.0.0.5/cam")
OTHER_PORT = CameraAddress.parse("https://10.0.0.5/cam")
IPV6 = CameraAddress.parse("rtsps://[2001:db8:0::5]/cam")


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("verify", TlsPolicy("verify")),
        (" insecure ", TlsPolicy("insecure")),
        (f"fingerprint:{FIRST}", TlsPolicy("fingerprint", FIRST)),
        ("fingerprint: " + ":".join(["AB"] * 32), TlsPolicy("fingerprint", FIRST)),
    ],
)
def test_a_policy_is_read_as_openssl_prints_fingerprints(text: str, policy: TlsPolicy) -> None:
    assert TlsPolicy.parse(text) == policy
    assert TlsPolicy.parse(policy.shown) == policy


@pytest.mark.parametrize(
    "text", ["", "verified", "fingerprint", "fingerprint:", "fingerprint:12", f"fingerprint:{FIRST}0"]
)
def test_other_policies_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        TlsPolicy.parse(text)


@given(text=st.text(st.sampled_from("fingerprint:0123456789abcdefABCDEF ") | st.characters(), max_size=120))
def test_any_text_is_a_policy_or_an_error(text: str) -> None:
    for given_text in (text, f"fingerprint:{text}"):
        try:
            policy = TlsPolicy.parse(given_text)
        except ValueError:
            continue
        assert policy.mode != "fingerprint" or len(policy.fingerprint) == 64


def loaded(folder: Path, url: str, **settings: Any) -> Any:
    lines = "".join(f", {name}: {value}" for name, value in settings.items())
    (folder / "cameras.yaml").write_text(f"defaults: {{tls: verify}}\ncameras: [{{id: lobby, url: '{url}'{lines}}}]\n")
    return load(folder / "cameras.yaml")


def test_tls_of_a_camera_without_tls_is_an_error(tmp_path: Path) -> None:
    for url, words in {"rtsp://10.0.0.5/": "write rtsps://", "usb:0": "remove it"}.items():
        with pytest.raises(ConfigError, match="does not apply to a ") as caught:
            loaded(tmp_path, url, tls="insecure")
        assert words in str(caught.value)
        assert loaded(tmp_path, url).cameras[0].tls == TlsPolicy("verify"), "`defaults` apply to all cameras"


def test_an_insecure_camera_is_a_warning(tmp_path: Path) -> None:
    config = loaded(tmp_path, "rtsps://10.0.0.5/", tls="insecure")
    (warning,) = plan(config).warnings
    assert warning.startswith("cameras.yaml: camera lobby: tls: insecure: the hub sends the password to any device")
    assert tls_warning(loaded(tmp_path, "rtsps://10.0.0.5/").cameras[0]) is None
    assert loaded(tmp_path, "rtsps://10.0.0.5/", tls="null").cameras[0].tls is None


def test_the_first_certificate_of_an_address_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "certificates"
    KnownCertificates(directory).check(CAMERA, FIRST)
    KnownCertificates(directory).check(CAMERA, FIRST)
    with pytest.raises(CertificateChangedError) as caught:
        KnownCertificates(directory).check(CAMERA, SECOND)
    assert (caught.value.known, caught.value.file) == (FIRST, directory / "10.0.0.5-322")
    KnownCertificates(directory).check(OTHER_PORT, SECOND)
    KnownCertificates(directory).check(IPV6, SECOND)
    assert sorted(file.name for file in directory.iterdir()) == ["10.0.0.5-322", "10.0.0.5-443", "2001:db8::5-322"]
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_deleted_file_is_an_acceptance(tmp_path: Path) -> None:
    known = KnownCertificates(tmp_path)
    known.check(CAMERA, FIRST)
    (tmp_path / "10.0.0.5-322").unlink()
    known.check(CAMERA, SECOND)
    with pytest.raises(CertificateChangedError):
        known.check(CAMERA, FIRST)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"ab" * 2**20, b"abc\n"])
def test_an_unreadable_file_matches_no_certificate(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "10.0.0.5-322").write_bytes(content)
    with pytest.raises(CertificateChangedError):
        KnownCertificates(tmp_path).check(CAMERA, FIRST)


def test_commands_read_the_files_and_write_none(tmp_path: Path) -> None:
    known = KnownCertificates(tmp_path / "missing", records=False)
    known.check(CAMERA, FIRST)
    assert not (tmp_path / "missing").exists()
    with pytest.raises(CertificateChangedError) as caught:
        known.check(CAMERA, SECOND)
    assert caught.value.file is None
    KnownCertificates(tmp_path).check(CAMERA, FIRST)
    with pytest.raises(CertificateChangedError):
        KnownCertificates(tmp_path, records=False).check(CAMERA, SECOND)


def test_a_directory_that_cannot_be_written_keeps_the_certificate_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = KnownCertificates(tmp_path / "missing" / "folder")
    known.check(CAMERA, FIRST)
    with pytest.raises(CertificateChangedError):
        known.check(CAMERA, SECOND)
    assert "cannot be written" in caplog.text
