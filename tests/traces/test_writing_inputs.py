"""An output is never an input of the same command, nor another of its outputs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsim.traces.faults import InputError
from vsim.traces.writing import check_apart, file_target, folder_target, fresh_folder

from .written import KIND, Refused, put_file, put_folder


def names_of(path: Path, beside: Path) -> Iterator[Path]:
    """Other names of a file: by a link, a hard link, a folder's link, and a way round."""
    yield path
    (beside / "link").symlink_to(path)
    yield beside / "link"
    os.link(path, beside / "hard")
    yield beside / "hard"
    (beside / "folder").symlink_to(path.parent)
    yield beside / "folder" / path.name
    yield beside / ".." / beside.name / "folder" / path.name
    yield Path(os.path.relpath(path))


def test_an_input_is_never_the_output_under_any_name(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "other").mkdir()
    put_file(tmp_path / "d" / "in.json")
    names = list(names_of(tmp_path / "d" / "in.json", tmp_path / "other"))
    for given in names:
        for place in names:
            message = refused(put_file, place, inputs=[given])
            assert f"is {given}, which this command reads" in message


def test_a_folder_that_holds_an_input_is_refused(tmp_path: Path, refused: Refused) -> None:
    put_folder(tmp_path / "out")
    (tmp_path / "other").mkdir()
    names = list(names_of(tmp_path / "out" / "steps.arrow", tmp_path / "other"))
    names.remove(tmp_path / "other" / "hard")  # this one stays whatever becomes of the folder
    for given in (*names, tmp_path / "out", str(tmp_path / "out" / "summary.json")):
        assert f"holds {given}, which this command reads" in refused(
            put_folder, tmp_path / "out", inputs=[given]
        )


def test_an_input_that_turns_up_later_counts_as_well(tmp_path: Path, refused: Refused) -> None:
    put_folder(tmp_path / "out")

    def late() -> None:
        with fresh_folder(tmp_path / "out", KIND) as fresh:
            fresh.protect([tmp_path / "out" / "steps.arrow"])

    assert "which this command reads" in refused(late)


def test_an_input_that_is_not_there_is_somebody_else_s_fault(tmp_path: Path) -> None:
    put_file(tmp_path / "o.json", inputs=[tmp_path / "no", "", "a\0b", tmp_path / "no" / "x"])


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("x", "x", "is"),
        ("x", "./x", "is"),
        ("x", "y/../x", "is"),
        ("x", "x/y", "lies in"),
        ("x", "x/y/z", "lies in"),
        ("x/y", "x", "holds"),
        ("link/x", "y/x", "is"),
    ],
)
def test_two_outputs_in_one_place_are_refused(
    one: str, other: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "y").mkdir()
    (tmp_path / "link").symlink_to("y")
    targets = [folder_target(one, KIND, "--out"), file_target(other, "curves", "--json")]
    with pytest.raises(InputError, match=f"^--json: {other}: {found} {one} of --out; name two"):
        check_apart(targets)
    check_apart([folder_target("x", KIND, "--out"), file_target("xy", "curves", "--json")])
