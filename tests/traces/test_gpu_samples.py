from pathlib import Path

import pytest

from vsim.traces.arrow_io import Provenance, write_table
from vsim.traces.faults import InputError
from vsim.traces.gpu_samples import GpuSamples, Sampled, arrow_rows, point

ROWS = (
    Sampled(point("read", "hbm", streams=1, bytes=64), 64, (2.0, 1.0, 4.0)),
    Sampled(point("power", "idle"), 0, (75.0,), "W"),
)
FACTS = {"date": "2026-11-27", "gpus": [{"name": "NVIDIA H200"}]}


def test_samples_come_back_as_they_were_written(tmp_path: Path) -> None:
    samples = GpuSamples(FACTS, ROWS, ("peer: there is one GPU",))
    samples.write(tmp_path / "s.arrow", "a test")
    read = GpuSamples.read(tmp_path / "s.arrow")
    assert (read.facts, read.rows, read.left_out) == (FACTS, ROWS, ("peer: there is one GPU",))


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.arrow", "b.arrow"):
        GpuSamples(FACTS, ROWS).write(tmp_path / name, "a test")
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()


def test_a_point_is_found_whatever_the_order_of_its_sizes() -> None:
    samples = GpuSamples(FACTS, ROWS)
    assert samples.at(point("read", "hbm", bytes=64, streams=1)) == ROWS[0]
    assert samples.at(point("read", "hbm", bytes=65, streams=1)) is None
    assert samples.of("power") == samples.of("power", "idle") == [ROWS[1]]


def test_a_figure_is_the_median_and_its_rate_is_by_that() -> None:
    assert (ROWS[0].median, ROWS[0].spread) == (2.0, 1.5)
    assert ROWS[0].bytes_per_s == 32e6


@pytest.mark.parametrize("facts", [None, "[", "[]"])
def test_samples_without_a_machine_s_facts_are_refused(tmp_path: Path, facts: str | None) -> None:
    extra = {"left_out": "[]"} | ({} if facts is None else {"facts": facts})
    write_table(arrow_rows(ROWS), tmp_path / "s.arrow", "gpu_samples", Provenance("t", extra=extra))
    with pytest.raises(InputError, match=r"vsim\.facts: is .*measure again"):
        GpuSamples.read(tmp_path / "s.arrow")
