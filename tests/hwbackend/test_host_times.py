"""Launch times are read off the step before the one that is launched."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from vsim.hwbackend.servers.host_times import (
    alone_ms,
    decode_gaps,
    gaps_before_prompts,
    host_tables,
)

FOLDER = Path(__file__).parents[2] / "traces" / "recorded" / "servers"
SETTINGS = {"graphs": {"cudagraph_capture_sizes": [1, 512, 64]}}


def a_run(*repeats: Any) -> Any:
    """Make a run of which only settings and repeats are known."""
    return SimpleNamespace(json=lambda name: {"settings": SETTINGS}[name], repeats=repeats)


def write_steps(folder: Path, rows: list[tuple[int, int, int]]) -> Path:
    """Write steps of (end in ms, prompt tokens finished, tokens generated)."""
    table = pa.table(
        {
            "end_ns": [end * 1_000_000 for end, _, _ in rows],
            "finished_prompt_tokens": [prompts for _, prompts, _ in rows],
            "generated_tokens": [generated for _, _, generated in rows],
            "has_tokens": [True] * len(rows),
        }
    )
    with pa.ipc.new_file(str(folder / "run.steps.arrow"), table.schema) as writer:
        writer.write_table(table)
    return folder / "run.arrow"


def test_the_step_before_a_prompt_holds_its_launch(tmp_path: Path) -> None:
    rows = [(0, 0, 4), (5, 0, 4), (35, 0, 4), (60, 600, 5), (65, 0, 5), (75, 0, 5), (90, 300, 6)]
    path = write_steps(tmp_path, rows)
    pieces, none = gaps_before_prompts(path, a_run())
    assert none.tolist() == [30.0]
    assert pieces.tolist() == [10.0]


def test_steps_beside_a_prompt_are_not_taken_for_decode(tmp_path: Path) -> None:
    rows = [(0, 0, 4), (5, 0, 4), (10, 0, 4), (40, 0, 4), (60, 600, 5), (65, 0, 5)]
    few, *_ = decode_gaps(write_steps(tmp_path, rows))
    assert few.tolist() == [5.0, 5.0]


def test_prompts_alone_are_told_apart_by_length() -> None:
    table = pa.table(
        {
            "prompt_tokens": [128, 512, 128, 128],
            "queued_ns": [0, 0, 0, 0],
            "engine_first_ns": [10_000_000, 20_000_000, 12_000_000, 17_000_000],
            "engine_last_ns": [20_000_000, 40_000_000, 22_000_000, 27_000_000],
            "output_tokens": [3, 5, 3, 3],
        }
    )
    found = alone_ms(a_run(table))
    assert found == {128: pytest.approx((12, 10, 17, 5)), 512: pytest.approx((20, 20, 20, 5))}


def test_the_read_me_shows_what_the_recordings_hold() -> None:
    shown = (FOLDER / "README.md").read_text()
    for table in host_tables(FOLDER):
        assert table in shown
