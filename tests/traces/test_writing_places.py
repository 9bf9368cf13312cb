"""Where vsim writes: on what it wrote itself, and on nothing else."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from vsim.traces.arrow_io import Provenance, write_table
from vsim.traces.schema import schema_of

from .written import BOTH, Put, Refused, put_file, put_folder, rows_of


@BOTH
def test_what_vsim_wrote_is_replaced_by_the_same_again(put: Put, tmp_path: Path) -> None:
    for _ in range(3):
        put(tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@BOTH
def test_what_is_empty_is_taken(put: Put, tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.touch() if put is put_file else place.mkdir()
    put(place)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "content",
    [
        b"years of work",
        b" ",
        b"\x00\xff",
        b'{"text": "x"}',
        b'{"kind": "curves"}',
        b'{"vsim": "curves"}',
        b'{"vsim": {"kind": 3}}',
        b'{"vsim": ["kind", "curves"]}',
        b'{"vsim": {"kind": "cur',
        b'{"vsim": ' + b"[" * 100_000,
        b'{"text": 1, "vsim": {"kind": "curves"}}',  # a document that only tells of vsim
        b'[{"vsim": {"kind": "curves"}}]',
        b"ARROW1 and no more",
        b"ARROW1\x00\x00" + b"\xff" * 64,
    ],
)
def test_a_file_of_other_people_is_left_alone(
    content: bytes, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "o.json").write_bytes(content)
    assert "holds what vsim did not write, and is left alone" in refused(
        put_file, tmp_path / "o.json"
    )


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, refused: Refused) -> None:
    put_file(tmp_path / "o.json", "bound")
    assert "holds bound, not curves" in refused(put_file, tmp_path / "o.json")


def test_an_arrow_file_is_ours_by_kind_and_producer(tmp_path: Path, refused: Refused) -> None:
    row = {"time_ns": 5, "thread": 1, "stream": 0, "op": "free", "handle": 3, "bytes": 8}
    path = tmp_path / "t.arrow"

    def put(metadata: dict[str, str] | None = None) -> None:
        table = pa.Table.from_pylist([row], schema=schema_of("allocations"))
        if metadata is None:
            write_table(table, path, "allocations", Provenance("a test"))
            return
        table = table.replace_schema_metadata(metadata)
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)

    put()
    put()
    assert "holds allocations, not curves" in refused(put_file, path)
    put({})
    assert "holds what vsim did not write" in refused(put)
    put({"vsim.kind": "allocations", "vsim.producer": "somebody"})
    assert "holds what vsim did not write" in refused(put)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda out: (out / "thesis.tex").write_text("mine"), "thesis.tex"),
        (lambda out: (out / ".git").mkdir(), ".git"),
        (lambda out: (out / "summary.json").unlink(), "no summary.json"),
        (
            lambda out: (out / "summary.json").write_text('{"rows": 1}'),
            "a summary.json that is not of this command",
        ),
        (
            lambda out: (out / "summary.json").write_text('{"vsim": {"kind": "bound"}}'),
            "a summary.json that is not of this command",
        ),
        (
            lambda out: (out / "steps.arrow").write_text("mine"),
            "another steps.arrow than was written there",
        ),
        (
            lambda out: (
                (out / "steps.arrow").rename(out.parent / "moved.arrow"),
                (out / "steps.arrow").symlink_to(out.parent / "moved.arrow"),
            ),
            "another steps.arrow than was written there",
        ),
        (
            lambda out: ((out / "steps.arrow").unlink(), (out / "steps.arrow").mkdir()),
            "another steps.arrow than was written there",
        ),
    ],
)
def test_a_folder_that_holds_anything_else_is_left_alone(
    change: Callable[[Path], object], found: str, tmp_path: Path, refused: Refused
) -> None:
    put_folder(tmp_path / "out")
    change(tmp_path / "out")
    fault = refused(put_folder, tmp_path / "out")
    assert f"holds what this command did not write (it holds {found})" in fault


def test_a_foreign_folder_with_the_same_names_is_left_alone(
    tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "out").mkdir()
    for name in ("summary.json", "requests.arrow", "steps.arrow"):
        (tmp_path / "out" / name).write_text("{}")
    assert "did not write" in refused(put_folder, tmp_path / "out")


def test_a_result_with_a_file_less_is_still_a_result(tmp_path: Path) -> None:
    put_folder(tmp_path / "out")
    (tmp_path / "out" / "steps.arrow").unlink()
    put_folder(tmp_path / "out", 5)
    assert rows_of(tmp_path / "out") == 5


def special(tmp_path: Path) -> Iterator[tuple[str, str]]:
    os.mkfifo(tmp_path / "pipe")
    yield str(tmp_path / "pipe"), "is a pipe"
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's name is short
        listener.bind("socket")
        os.chdir(here)
    yield str(tmp_path / "socket"), "is a socket"
    yield "/dev/null", "is a device"
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to("target")
    yield str(tmp_path / "link"), "is a symbolic link to"
    (tmp_path / "dangling").symlink_to("nothing")
    yield str(tmp_path / "dangling"), "is a symbolic link to"
    (tmp_path / "device").symlink_to("/dev/null")
    yield str(tmp_path / "device"), "leads to a device"
    (tmp_path / "loop").symlink_to("loop")
    yield str(tmp_path / "loop"), "is a symbolic link to"
    yield str(tmp_path / "loop" / "x"), "Too many levels of symbolic links"
    yield str(tmp_path / ("x" * 300)), "File name too long"
    yield str(tmp_path / "/".join(["y" * 200] * 30)), "File name too long"
    yield "", "is an empty name"
    yield "a\0b", "holds a NUL character"


@BOTH
def test_what_is_no_place_is_refused_by_name(put: Put, tmp_path: Path, refused: Refused) -> None:
    cases = list(special(tmp_path))
    assert len(cases) == 12
    for place, message in cases:
        assert message in refused(put, place), place
    assert (tmp_path / "target").read_text() == "mine"


def test_a_link_to_a_result_is_refused_too(tmp_path: Path, refused: Refused) -> None:
    put_folder(tmp_path / "real")
    (tmp_path / "out").symlink_to("real")
    assert f"symbolic link to {tmp_path}/real" in refused(put_folder, tmp_path / "out")
    put_folder(tmp_path / "real")


def test_a_link_above_the_place_is_followed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "link").symlink_to("scratch")
    put_folder(tmp_path / "link" / "out")
    put_file(tmp_path / "link" / "o.json")
    assert sorted(p.name for p in (tmp_path / "scratch").iterdir()) == ["o.json", "out"]


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path: Path, refused: Refused) -> None:
    put_file(tmp_path / "f")
    put_folder(tmp_path / "d")
    assert "is a folder; name a file in it" in refused(put_file, tmp_path / "d")
    assert "is the name of a folder" in refused(put_file, f"{tmp_path}/new/")
    assert "is a file; name a new folder" in refused(put_folder, tmp_path / "f")
    assert "Not a directory; make its folder first" in refused(put_file, tmp_path / "f" / "x")
    assert "no folder that can be written to" in refused(put_folder, tmp_path / "f" / "x")
    assert "No such file or directory; make its folder first" in refused(
        put_file, tmp_path / "no" / "x"
    )


@BOTH
def test_what_somebody_protected_is_left_alone(put: Put, tmp_path: Path, refused: Refused) -> None:
    put(tmp_path / "out")
    (tmp_path / "out").chmod(0o555)
    assert "is write-protected" in refused(put, tmp_path / "out")
    (tmp_path / "out").chmod(0o755)


@pytest.mark.parametrize("place", [".", "..", "../here", "../here/."])
def test_the_folder_one_is_in_is_refused(
    place: str, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert "is the folder you are in, or above it" in refused(put_folder, place)


def test_a_mount_is_refused(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    assert "where a file system is mounted" in refused(put_folder, tmp_path / "disk")


@BOTH
@pytest.mark.parametrize(
    "name", ["*", "[ab]", "?", "a b", "-", "ü·→", "\udcff\n", "{x}", "x" * 250]
)
def test_a_name_is_a_name_and_no_pattern(put: Put, name: str, tmp_path: Path) -> None:
    for other in (".a.vsim-0123", ".git", "a", "b"):  # all of them match some pattern
        (tmp_path / other).mkdir()
    before = set(os.listdir(tmp_path))
    put(tmp_path / name)
    put(tmp_path / name)
    assert set(os.listdir(tmp_path)) == before | {name}
