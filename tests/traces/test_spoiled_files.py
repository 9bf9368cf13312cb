"""Whatever is done to a trace file, it is read soundly or refused by name: never a traceback."""

import io
import random
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from tests.traces.mutations import TEXTS, binaries, odd_arrow, odd_parquet, spoiled

from vsim.traces.arrow_io import read_table
from vsim.traces.attention import read_attention
from vsim.traces.faults import InputError
from vsim.traces.importers import FORMATS, ImportOptions, import_requests
from vsim.traces.info import describe_requests, describe_table
from vsim.traces.request_check import check_requests
from vsim.traces.requests import requests_from_table, write_requests

CASES = 80  # of each file; many thousands were run when this was written


def check_faults(error: InputError) -> None:
    assert error.faults
    for fault in error.faults:
        assert len(str(fault).splitlines()) == 1
        assert len(str(fault)) < 2000


def check_read(path: Path, draw: random.Random) -> bool:
    """Read a file of any kind, hold what it gives, and say whether it was taken."""
    try:
        if path.read_bytes()[:6] == b"ARROW1":
            table = read_table(path)
            kind = table.schema.metadata[b"vsim.kind"]
            describe_table(table, kind.decode())
            if kind == b"attention":
                read_attention(path)
            elif kind == b"requests":
                check_requests(requests_from_table(table, "t"))
            return True
        format = draw.choice(("auto", "auto", "auto", *FORMATS))
        imported = import_requests(path, format, ImportOptions(sort=draw.random() < 0.2))
    except InputError as error:
        check_faults(error)
        return False
    check_requests(imported.requests)
    describe_requests(imported.requests)
    out = path.with_suffix(".arrow")
    write_requests(imported.requests, out)
    check_requests(requests_from_table(read_table(out), "t"))
    return True


def check_many(
    tmp_path: Path, seed: int, cases: int, make: Callable[[random.Random], bytes]
) -> None:
    taken = 0
    for case in range(cases):
        draw = random.Random(f"{seed} {case}")
        data = make(draw)
        path = tmp_path / "t"
        path.write_bytes(data)
        with redirect_stderr(io.StringIO()):
            try:
                taken += check_read(path, draw)
            except Exception as error:  # pragma: no cover
                raise AssertionError(f"seed {seed}, case {case}: {data[:300]!r}") from error
    assert taken < cases


@pytest.mark.parametrize("name", TEXTS)
def test_a_spoiled_text_is_read_or_refused(tmp_path: Path, name: str) -> None:
    check_many(tmp_path, 1, CASES, lambda draw: spoiled(draw, TEXTS[name]))


@pytest.mark.parametrize("name", binaries())
def test_a_spoiled_binary_is_read_or_refused(tmp_path: Path, name: str) -> None:
    whole = binaries()[name]
    check_many(tmp_path, 1, CASES, lambda draw: spoiled(draw, whole, binary=True))


def test_parquet_columns_of_any_type_are_read_or_refused(tmp_path: Path) -> None:
    check_many(tmp_path, 1, CASES, odd_parquet)


def test_arrow_values_at_the_ends_of_their_types_are_read_or_refused(tmp_path: Path) -> None:
    check_many(tmp_path, 1, 3 * CASES, odd_arrow)


def test_a_header_of_many_columns_costs_no_more_than_its_length(tmp_path: Path) -> None:
    """A hundred thousand names: what compares each with each takes 10^10 comparisons."""
    names = ",".join(map(str, range(100_000)))
    (tmp_path / "t").write_text(f"{names},1,input_length\n")
    with pytest.raises(InputError, match="1: column is there more than once"):
        import_requests(tmp_path / "t")
    (tmp_path / "t").write_text(f"{names},input_length\n")
    with pytest.raises(InputError, match="no column of output tokens among 0, 1, 2"):
        import_requests(tmp_path / "t")
    columns = {"prompt": "a", "output": "b"}
    with pytest.raises(InputError, match=r"'a' is no column of the table \(known: 100,001 names"):
        import_requests(tmp_path / "t", options=ImportOptions(columns=columns))


@pytest.mark.parametrize("name", [*TEXTS, *binaries()])
def test_the_unspoiled_file_is_taken(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t"
    path.write_bytes({**TEXTS, **binaries()}[name])
    draw = random.Random(0)
    draw.choice = lambda values: values[0]  # type: ignore[method-assign] # the format is told
    assert check_read(path, draw)
