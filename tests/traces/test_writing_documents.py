"""A folder of documents: each whole or absent, whatever happens to it."""

import json
import os
import threading
from pathlib import Path

import pytest

from vsim.traces.faults import InputError
from vsim.traces.writing import Documents

KEY, OTHER = "a" * 64, "b" * 64


def test_a_document_is_read_as_it_was_put_and_others_are_absent(tmp_path: Path) -> None:
    kept = Documents(tmp_path / "made" / "below", "size point")
    kept.put(KEY, {"x": [1, 0.1, None], "vsim": "mine"})
    assert kept.get(KEY) == {"x": [1, 0.1, None]}
    assert kept.get(OTHER) is None
    kept.put(KEY, {"x": 2})
    assert Documents(tmp_path / "made" / "below", "size point").get(KEY) == {"x": 2}
    assert os.listdir(tmp_path / "made" / "below") == [f"{KEY}.json"], "nothing is left beside it"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"x": 1}', '{"vsim": {"kind": "run"}, "x": 1}', "[" * 100_000, "\xff"],
)
def test_what_is_spoilt_or_of_another_kind_counts_as_absent(tmp_path: Path, text: str) -> None:
    kept = Documents(tmp_path, "size point")
    (tmp_path / f"{KEY}.json").write_bytes(text.encode("latin-1"))
    assert kept.get(KEY) is None
    kept.put(KEY, {"x": 1})
    assert kept.get(KEY) == {"x": 1}


def test_whoever_reads_while_others_write_sees_a_whole_document(tmp_path: Path) -> None:
    large = {"x": list(range(2000))}
    writers = [
        threading.Thread(
            target=lambda: [Documents(tmp_path, "k").put(KEY, large) for _ in range(20)]
        )
        for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    seen = [Documents(tmp_path, "k").get(KEY) for _ in range(200)]
    for writer in writers:
        writer.join()
    assert all(each in (None, large) for each in seen)
    assert json.loads((tmp_path / f"{KEY}.json").read_text())["x"] == large["x"]


def test_a_folder_that_can_t_be_is_refused_by_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/below"):
        with pytest.raises(
            InputError, match=r"--store: .*file.*: cannot be written.*; name another"
        ):
            Documents(tmp_path / name, "k", "--store")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to; name another folder"):
        Documents(tmp_path, "k")
