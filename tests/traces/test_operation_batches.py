"""Logs that hold the batches of steps: all of their columns, and lists that go together."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from vsim.traces.arrow_io import Provenance, read_table, write_table
from vsim.traces.faults import InputError
from vsim.traces.schema import BATCH_COLUMNS, schema_of

TIMES = {"stream": 0, "depends_on": [], "submit_ns": 0, "start_ns": 1, "end_ns": 2,
         "predicted": True}  # fmt: skip
NOTHING: dict[str, Any] = {name: [] for name in BATCH_COLUMNS}
COMPUTE = NOTHING | {"rows": [4, 7], "new_tokens": [1, 20], "context_tokens": [9, 20],
                     "samples": [1, 0]}  # fmt: skip
ROWS = [
    TIMES | COMPUTE | {"id": 0, "step": 0, "kind": "compute", "source_tier": "hbm", "pages": [],
                       "bytes": 8},
    TIMES | NOTHING | {"id": 1, "step": 0, "kind": "attend", "source_tier": "hbm",
                       "pages": [3, 1, 2], "bytes": 8, "row_pages": [1, 2]},
]  # fmt: skip


def written(path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Path:
    schema = schema_of("operations", columns)
    chosen = [{name: row.get(name) for name in schema.names} for row in rows]
    write_table(pa.Table.from_pylist(chosen, schema=schema), path, "operations", Provenance("x"))
    return path


def test_a_log_with_batches_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "log.arrow", ROWS, BATCH_COLUMNS), "operations")
    for name in BATCH_COLUMNS:
        assert table.column(name).to_pylist() == [row[name] for row in ROWS]
        assert table.schema.field(name).metadata[b"unit"]


def test_a_log_without_them_is_one_too(tmp_path: Path) -> None:
    assert read_table(written(tmp_path / "log.arrow", ROWS, ()), "operations").num_rows == 2


@pytest.mark.parametrize(
    ("row", "change", "said"),
    [
        (
            0,
            {"new_tokens": [1]},
            "row 0, column new_tokens: has 1 numbers; write one for each of 2",
        ),
        (
            0,
            {"samples": [1, 0, 1]},
            "row 0, column samples: has 3 numbers; write one for each of 2",
        ),
        (0, {"samples": [1, 2]}, "row 0, column samples: holds 2; write at most 1"),
        (0, {"new_tokens": [1, 0]}, "row 0, column new_tokens: holds 0; write 1 or more"),
        (0, {"rows": [4, -7]}, "row 0, column rows: holds -7; write 0 or more"),
        (1, {"row_pages": [1, 1]}, "row 1, column row_pages: adds up to 2, and there are 3 pages"),
    ],
)
def test_lists_that_do_not_go_together_are_named(
    row: int, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    rows = [each | change if number == row else each for number, each in enumerate(ROWS)]
    with pytest.raises(InputError) as wrong:
        read_table(written(tmp_path / "log.arrow", rows, BATCH_COLUMNS), "operations")
    assert any(said in str(fault) for fault in wrong.value.faults), str(wrong.value)


def test_some_of_the_columns_are_not_enough(tmp_path: Path) -> None:
    path = written(tmp_path / "log.arrow", ROWS, ("rows", "new_tokens"))
    with pytest.raises(InputError, match="column context_tokens: is missing; write all of rows"):
        read_table(path, "operations")
