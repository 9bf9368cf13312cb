"""Files that are no files of text, wherever a scenario, a machine or a model is read."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

Refuse = Callable[..., list[str]]
SCENARIO = """\
name: s
workload: {trace: t.csv}
machine: MACHINE
model: MODEL
tiers: [{tier: hbm}]
"""


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def utf16(path: Path) -> None:
    path.write_bytes("name: x\n".encode("utf-16"))


def zeros(path: Path) -> None:
    path.write_bytes(bytes(100))


def locked(path: Path) -> None:
    path.symlink_to(path)  # leads nowhere


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


KINDS = {
    "a pipe": (pipe, "is a pipe"),
    "a socket": (listening, "is a device or a socket"),
    "a device": (device, "is a device or a socket"),
    "a folder": (folder, "is a folder"),
    "UTF-16": (utf16, "is not UTF-8 text"),
    "zeros": (zeros, ""),
    "a link to itself": (locked, "can't be read"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", ["scenario", "machine", "model", "config"])
def test_what_is_no_text_file_is_one_line(
    kind: str, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refuse
) -> None:
    monkeypatch.chdir(tmp_path)
    make, words = KINDS[kind]
    name = {"config": "c.json"}.get(role, f"{role}.yaml")
    make(tmp_path / name)
    machine = name if role == "machine" else "h100"
    model = name if role in ("model", "config") else "llama-3.1-8b"
    if role != "scenario":
        text = SCENARIO.replace("MACHINE", machine).replace("MODEL", model)
        (tmp_path / "scenario.yaml").write_text(text)
    (line,) = refused("run", "scenario.yaml")
    assert line.startswith(name)
    assert words in line


CONFIGS = {
    "a key written twice": ('{"hidden_size": 1, "hidden_size": 2}', "hidden_size: is written"),
    "NaN": ('{"hidden_size": NaN}', "NaN is not a finite number"),
    "a number of thousands of digits": ('{"hidden_size": ' + "1" * 5000 + "}", "is not a model's"),
    "brackets without end": ('{"a":' * 100_000, "is not a model's"),
    "half a character": ('{"model_type": "\\ud800", "hidden_size": "\\ud800"}', "ud800"),
    "a list": ("[]", "holds a list of 0"),
    "a mark at the start and nothing": ("\ufeff", "is not JSON"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_json_of_oddities_is_refused_by_what_is_odd(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refuse
) -> None:
    monkeypatch.chdir(tmp_path)
    text, words = CONFIGS[name]
    (tmp_path / "c.json").write_text(text)
    scenario = SCENARIO.replace("MACHINE", "h100").replace("MODEL", "c.json")
    (tmp_path / "scenario.yaml").write_text(scenario)
    lines = refused("run", "scenario.yaml")
    assert all(line.startswith("c.json") for line in lines)
    assert any(words in line for line in lines), lines


LINES = {
    "half a character": ('name: "\\ud800"\n', "name: '\\ud800' holds half a character"),
    "a key of half a character": ('"a\\ud800": 1\n', "a key holds half a character"),
    "a key that turns the line round": ('"\\u202e": 1\n', "\\u202e: unknown key"),
    "a key that colours the line": ('"\\x1b[31m": 1\n', "\\x1b[31m: unknown key"),
    "a key without end": (f"{'x' * 900}: 1\n", "x…: unknown key"),
    "brackets without end": ("a: " + "[" * 6_000, "nested too deeply"),
    "an alias of itself": ("a: &a {b: *a}\n", "too deeply nested"),
    "a date": ("seed: 2024-01-01\n", "seed: '2024-01-01' is not a whole number"),
    "a number of thousands of digits": (f"seed: {'1' * 5000}\n", "seed: "),
    "a tag": ("seed: !!python/object:os.system 1\n", "tag "),
}


@pytest.mark.parametrize("name", LINES)
def test_yaml_of_oddities_is_refused_by_what_is_odd(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refuse
) -> None:
    monkeypatch.chdir(tmp_path)
    text, words = LINES[name]
    (tmp_path / "s.yaml").write_text(text)
    lines = refused("run", "s.yaml")
    assert any(words in line for line in lines), lines
    assert all(line.isprintable() and len(line) < 1500 for line in lines)
