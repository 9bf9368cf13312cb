"""Requests in memory and as Arrow."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.traces.arrow_io import read_table
from vsim.traces.faults import InputError
from vsim.traces.reading import read_requests
from vsim.traces.requests import Requests, requests_from_table, requests_table, write_requests
from vsim.traces.synth import SynthSpec, synthesise


def assert_equal(found: Requests, wanted: Requests) -> None:
    for field in fields(Requests):
        one, other = getattr(found, field.name), getattr(wanted, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        else:
            assert one == other, field.name


def test_what_is_written_is_read_again(tmp_path: Path, requests: Requests) -> None:
    write_requests(requests, tmp_path / "t.arrow")
    assert_equal(read_requests(tmp_path / "t.arrow"), requests)


def test_the_same_requests_give_the_same_bytes(tmp_path: Path, requests: Requests) -> None:
    write_requests(requests, tmp_path / "a.arrow")
    write_requests(requests, tmp_path / "b.arrow")
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()


def test_a_parent_is_a_row_in_memory_and_an_id_in_the_file(requests: Requests) -> None:
    table = requests_table(requests)
    assert table.column("parent").to_pylist() == [None, None, 10, None]
    assert requests_from_table(table, "f").parent.tolist() == [-1, -1, 0, -1]


def test_head_keeps_the_first_requests_and_their_prefix_ids(requests: Requests) -> None:
    head = requests.head(3)
    assert head.id.tolist() == [10, 11, 7]
    assert head.prefix_offsets.tolist() == [0, 3, 3, 7]
    assert head.prefix_ids.tolist() == [100, 101, 102, 100, 101, 103, 104]
    assert len(requests.head(2).prefix_ids) == 3
    assert_equal(requests.head(99), requests)


def test_a_file_in_many_batches_with_plain_words_is_read(
    tmp_path: Path, requests: Requests
) -> None:
    write_requests(requests, tmp_path / "t.arrow")
    table = read_table(tmp_path / "t.arrow")
    place = table.column_names.index("tenant")
    table = table.set_column(place, "tenant", table.column("tenant").cast(pa.string()))
    with (
        pa.OSFile(str(tmp_path / "b.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=1)
    found = read_requests(tmp_path / "b.arrow")
    names = [found.tenant_names[code] for code in found.tenant]
    assert names == ["ada", "", "ada", "bob"]
    np.testing.assert_array_equal(found.prefix_ids, requests.prefix_ids)
    np.testing.assert_array_equal(found.parent, requests.parent)


@settings(max_examples=examples(25), deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 60),
    turns=st.floats(1.5, 6),
    block=st.sampled_from([0, 1, 16, 512]),
)
def test_generated_requests_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, turns: float, block: int
) -> None:
    spec = SynthSpec.model_validate(
        {
            "requests": count,
            "seed": seed,
            "arrivals": {"rate_per_s": 3},
            "prompt_tokens": "0.5:40,0.9:300",
            "output_tokens": "0.5:20",
            "sessions": {"turns_mean": turns, "think_s_mean": 1.0},
            "block_tokens": block,
            "tenants": [{"name": "a", "share": 1}, {"name": "b", "share": 2, "priority": 3}],
        }
    )
    made = synthesise(spec)
    path = tmp_path_factory.mktemp("traces") / "t.arrow"
    write_requests(made, path)
    assert_equal(read_requests(path), made)


def test_a_missing_folder_is_a_fault(tmp_path: Path, requests: Requests) -> None:
    with pytest.raises(InputError, match=r"no/t\.arrow: cannot be written: No such file"):
        write_requests(requests, tmp_path / "no" / "t.arrow")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_requests(requests, tmp_path / "t.arrow")
    before = (tmp_path / "t.arrow").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(InputError, match="No space left"):
        write_requests(requests.head(1), tmp_path / "t.arrow")
    assert [path.name for path in tmp_path.iterdir()] == ["t.arrow"]
    assert (tmp_path / "t.arrow").read_bytes() == before
