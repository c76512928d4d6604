"""The broker package contains its Lua scripts, and each script documents its interface."""

from __future__ import annotations

from importlib.resources import files

import pytest

from nvision_hub.broker.scripts import load_script

SCRIPTS = sorted(each.name for each in files("nvision_hub.broker.scripts").iterdir() if each.name.endswith(".lua"))


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 5


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_documents_keys_arguments_and_result(name: str) -> None:
    comment = load_script(name.removesuffix(".lua")).partition("\n\n")[0]
    assert all(line.startswith("--") for line in load_script(name.removesuffix(".lua")).splitlines()[:5])
    assert "KEYS[1]" in comment
    assert "ARGV[1]" in comment
    assert "Returns" in comment


def test_joined_scripts_keep_their_order() -> None:
    assert load_script("group_gap", "group_read") == f"{load_script('group_gap')}\n{load_script('group_read')}"
