"""Attention stored page by page is read as the rows that it was made of, or refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples, some
from tests.traces.attention.test_attention_files import small

from vsim.traces.arrow_io import kind_of, metadata_of, read_table
from vsim.traces.attention import AttentionTrace, read_attention, write_attention
from vsim.traces.attention_by_page import by_page, by_row
from vsim.traces.faults import InputError

FOLDER = Path(__file__).parents[3] / "traces" / "recorded"
BY_PAGE = ("agent", "dialogue", "retrieval")


def rows_of(trace: AttentionTrace, path: Path) -> pa.Table:
    write_attention(trace, path)
    return read_table(path)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Rows of any steps, requests, layers and heads, with any pages, in which pages come and go."""
    numbers = st.integers(0, 3)
    keys = draw(
        st.sets(st.tuples(st.integers(0, 70_000) | numbers, numbers, numbers, numbers), min_size=1)
    )
    rows: list[dict[str, Any]] = []
    for step, request, layer, head in sorted(keys):
        pages = sorted(draw(st.sets(st.integers(0, 6), min_size=1)))
        codes = draw(st.lists(st.integers(0, 255), min_size=len(pages), max_size=len(pages)))
        rows.append({"step": step, "request": request, "layer": layer, "kv_head": head - 1,
                     "pages": pages, "mass": codes, "score_quest": codes[::-1]})  # fmt: skip
    listed: Any = pa.list_
    schema = pa.schema(
        [("step", pa.int64()), ("request", pa.int64()), ("layer", pa.int32()),
         ("kv_head", pa.int32()), ("pages", listed(pa.int32())), ("mass", listed(pa.uint8())),
         ("score_quest", listed(pa.float32()))]
    )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema)


@settings(max_examples=examples(150))
@given(tables())
def test_any_rows_come_back_as_they_were(table: pa.Table) -> None:
    assert by_row(by_page(table), "t").cast(table.schema).equals(table)


def test_a_file_stored_by_page_is_read_as_one_stored_by_row(tmp_path: Path) -> None:
    by_rows = rows_of(small(), tmp_path / "rows.arrow")
    write_attention(small(), tmp_path / "pages.arrow", pages_first=True)
    assert kind_of(tmp_path / "pages.arrow") == "attention"
    found = read_table(tmp_path / "pages.arrow", "attention")
    assert found.equals(by_rows, check_metadata=True)
    assert read_attention(tmp_path / "pages.arrow").facts == small().facts


@pytest.mark.parametrize("name", some(BY_PAGE, 3))
def test_a_recording_is_stored_by_page_and_stored_again_equal(name: str) -> None:
    with pa.ipc.open_file(FOLDER / f"{name}.arrow") as file:
        stored = file.read_all()
    assert metadata_of(stored)["rows"] == "page"
    again = by_page(read_table(FOLDER / f"{name}.arrow"))
    assert again.equals(stored.replace_schema_metadata(None), check_metadata=True)


def test_rows_without_scores_or_pages_are_not_stored_by_page(tmp_path: Path) -> None:
    bare = small(scores={}, scales={})
    empty = small(offsets=np.array([0, 0, 4, 7, 10]))
    for trace in (bare, empty):
        with pytest.raises(ValueError, match="needs a score, and a page in every row"):
            write_attention(trace, tmp_path / "t.arrow", pages_first=True)
    assert list(tmp_path.iterdir()) == []


def stored(tmp_path: Path) -> pa.Table:
    return by_page(rows_of(small(), tmp_path / "rows.arrow"))


def changed(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("step", 0, -1, "row 0, column step: lies outside of 0 to 16777215"),
        ("step", 1, 2**63 - 1, "row 1, column step: lies outside of"),
        ("step", 1, 2**24 - 1, "row 1, column step: lies outside of"),
        ("page", 1, 0, "row 1, column page: is out of order or twice there"),
        ("kv_head", 0, 1, "row 1, column page: is out of order or twice there"),
        ("kv_head", 1, -2, "row 1, column page: is out of order"),
        ("request", 5, -1, "row 5, column page: is out of order"),
        ("mass", 2, [], "row 2, column mass: is empty; write one score or more"),
        ("mass", 2, [1, 2], "column score_quest: holds other than one score for each of mass"),
        ("mass", 2, [None], "column mass: holds a null"),
        ("page", 2, None, "column page: holds a null"),
    ],
)
def test_a_fault_of_what_is_stored_names_row_and_column(
    tmp_path: Path, column: str, row: int, value: object, message: str
) -> None:
    table = stored(tmp_path)
    values = table.column(column).to_pylist()
    values[row] = value
    with pytest.raises(InputError) as caught:
        by_row(changed(table, column, values), "t.arrow")
    assert str(caught.value).startswith("t.arrow")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop_columns(["step"]), "column step: is missing; add it as int64"),
        (lambda t: t.drop_columns(["mass", "score_quest"]), "column mass: is missing"),
        (lambda t: t.append_column("pages", t["page"]), "column pages: is not known"),
        (lambda t: t.append_column("mass", t["mass"]), "column mass: is there more than once"),
        (lambda t: t.set_column(3, "page", t["page"].cast(pa.int64())), "is int64; write int32"),
        (lambda t: t.set_column(5, "mass", t["page"]), "column mass: is int32; write lists"),
        (lambda t: t.slice(0, 0), "is empty"),
    ],
)
def test_columns_that_are_not_those_of_the_form_are_refused(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        by_row(spoil(stored(tmp_path)), "t.arrow")
    assert message in str(caught.value)


def test_what_rows_may_not_hold_is_refused_where_it_is_stored_by_page(tmp_path: Path) -> None:
    write_attention(small(prompt_tokens=15), tmp_path / "t.arrow", pages_first=True)
    with pytest.raises(InputError, match="holds page 1 before step 1"):
        read_attention(tmp_path / "t.arrow")
