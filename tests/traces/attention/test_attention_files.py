"""Attention traces on disk: what is written is read again, and faults are named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vsim.traces.attention import AttentionTrace, read_attention, write_attention
from vsim.traces.faults import InputError
from vsim.traces.score_codes import LogScale


def small(**changes: object) -> AttentionTrace:
    trace = AttentionTrace(
        step=np.array([0, 0, 1, 1]),
        request=np.zeros(4, np.int64),
        layer=np.zeros(4, np.int32),
        kv_head=np.array([0, 1, 0, 1], np.int32),
        offsets=np.array([0, 2, 4, 7, 10]),
        pages=np.array([0, 1, 0, 1, 0, 1, 2, 0, 1, 2], np.int32),
        scores={"mass": np.arange(10, dtype=np.uint8), "quest": np.arange(10, dtype=np.float16)},
        scales={"mass": LogScale(0.5)},
        page_tokens=16,
        page_bytes=4096,
        prompt_tokens=31,
        source="by hand",
        licence="CC0-1.0",
        facts={"mass_kept": "0.6"},
    )
    return replace(trace, **changes)  # type: ignore[arg-type] # tests change any field


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    trace = small()
    write_attention(trace, tmp_path / "t.arrow")
    found = read_attention(tmp_path / "t.arrow")
    for name in ("step", "request", "layer", "kv_head", "offsets", "pages"):
        assert (getattr(found, name) == getattr(trace, name)).all(), name
    assert set(found.scores) == {"mass", "quest"}
    assert (found.scores["mass"] == trace.scores["mass"]).all()
    assert found.scores["mass"].dtype == np.uint8
    assert (found.scores["quest"] == trace.scores["quest"]).all()
    assert found.scales == trace.scales
    assert (found.page_tokens, found.page_bytes, found.prompt_tokens) == (16, 4096, 31)
    assert (found.source, found.licence, found.facts) == ("by hand", "CC0-1.0", trace.facts)


def test_the_same_trace_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.arrow", "b.arrow"):
        write_attention(small(), tmp_path / name)
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()


def test_nothing_but_the_trace_is_left_in_the_folder(tmp_path: Path) -> None:
    write_attention(small(), tmp_path / "t.arrow")
    assert [path.name for path in tmp_path.iterdir()] == ["t.arrow"]


def test_codes_are_read_as_mass_and_a_dropped_page_has_none() -> None:
    mass = small().mass()
    assert mass[0] == 0
    # 48 fine codes from 1 to 2^-6, and half a power of two from code to code below
    assert mass[9] == np.float32(2.0 ** (-6 - (245 - 48 - 9) * 0.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"page_tokens": 0}, "vsim.page_tokens: is '0'; write a number of 1 or more"),
        ({"prompt_tokens": -5}, "vsim.prompt_tokens: is '-5'"),
        ({"prompt_tokens": 15}, "row 0, column pages: holds page 1 before step 1"),
        ({"pages": np.array([1, 0, 0, 1, 0, 1, 2, 0, 1, 2], np.int32)}, "row 0, column pages"),
        ({"step": np.array([0, 0, 0, 1])}, "out of order or twice"),
    ],
)
def test_a_fault_names_file_and_place(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    write_attention(small(**changes), tmp_path / "t.arrow")
    with pytest.raises(InputError) as caught:
        read_attention(tmp_path / "t.arrow")
    assert "t.arrow" in str(caught.value)
    assert message in str(caught.value)


def test_codes_without_their_scale_are_a_fault(tmp_path: Path) -> None:
    write_attention(small(scales={}), tmp_path / "t.arrow")
    with pytest.raises(InputError, match="mass_scale"):
        read_attention(tmp_path / "t.arrow")
