"""Tables that grow while a run goes on: the same bytes whatever the batches, in files or not."""

from pathlib import Path

import pyarrow as pa
import pytest

from vsim.sim.results import stored
from vsim.sim.results.stored import StoredTable

SCHEMA = pa.schema([pa.field("x", pa.int64(), metadata={"unit": "1"})])


def filled(batches: list[int], path: Path | None = None) -> StoredTable:
    table, first = StoredTable(SCHEMA, {"vsim.kind": "x"}, path), 0
    for rows in batches:
        table.add(pa.table([pa.array(range(first, first + rows), pa.int64())], schema=SCHEMA))
        first += rows
    table.close()
    return table


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 128, 300])
def test_the_same_rows_give_the_same_bytes_in_whatever_batches(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "_ROWS", 64)
    ways = {
        "whole": [rows],
        "singly": [1] * rows,
        "in threes": [3] * (rows // 3) + [rows % 3],
        "with empty ones": [0, rows, 0],
    }
    found = {name: filled(sizes, tmp_path / name) for name, sizes in ways.items()}
    assert len({(tmp_path / name).read_bytes() for name in ways}) == 1
    temporary = filled(ways["in threes"])
    temporary.copy_to(tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == (tmp_path / "whole").read_bytes()
    for table in (*found.values(), temporary):
        assert table.table()["x"].to_pylist() == list(range(rows))
        assert table.table().schema.field("x").metadata == {b"unit": b"1"}
    with pa.ipc.open_file(tmp_path / "whole") as file:
        assert file.schema.metadata == {b"vsim.kind": b"x"}
        sizes = [file.get_batch(i).num_rows for i in range(file.num_record_batches)]
        assert sum(sizes) == rows
        assert set(sizes[:-1]) <= {64}


def test_a_temporary_table_moves_to_a_file_when_it_is_large(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stored, "_IN_MEMORY_BYTES", 1_000)
    monkeypatch.setattr(stored, "_ROWS", 10)
    small, large = filled([1]), filled([10] * 40)
    assert (small._file._rolled, large._file._rolled) == (False, True)
    assert large.table().num_rows == 400
    large.copy_to(tmp_path / "large")
    assert large.table().num_rows == 400
    del large  # and with it the file; a warning would be an error


def test_a_table_is_not_copied_to_itself(tmp_path: Path) -> None:
    table = filled([5], tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    table.copy_to(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == before
