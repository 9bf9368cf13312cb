"""What `vsim bound` and `vsim record` say to sizes and traces that are beyond them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vsim.sim.placement.bounding import bound
from vsim.sim.placement.scenario import MemorySettings, PlacementScenario, SelectionSettings
from vsim.traces import machine_memory
from vsim.traces.arrow_io import Provenance, write_table
from vsim.traces.attention import AttentionTrace, read_attention, write_attention
from vsim.traces.faults import InputError
from vsim.traces.selection import Dense, SlidingWindow, TopShare, select

Refuse = Callable[..., list[str]]

SCENARIO = """\
generate: {prompt_tokens: 600, steps: 30, heads: 6}
policies: [static, lru]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO)
    return str(path)


@pytest.fixture
def four_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same machine wherever this runs."""
    monkeypatch.setattr(machine_memory, "machine_bytes", lambda: 4 * 2**30)


@pytest.mark.usefixtures("four_gib")
@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("generate.prompt_tokens=1000000000", "take about"),
        ("generate.prompt_tokens=2147483647", "prompt_tokens and steps are more than 2147483647"),
        ("generate.prompt_tokens=999999999999999999999999", "at most 2147483647"),
        ("generate.steps=1000000", "take about"),
        ("generate.steps=1000000000", "at most 16777215"),
        ("generate.requests=60000", "take about"),
        ("generate.requests=1000000000", "at most 65536"),
        ("generate={prompt_tokens: 131072, steps: 100, heads: 300}",
         "and this machine has 4 GiB; ask for less"),
        ("generate.heads=1000000000", "at most 32768"),
        ("generate.seed=4611686018427387905", "out of range"),
        ("seed=99999999999999999999999999", "out of range"),
        ("page_factor=1000000000", "more than the 40 of a whole context; write at most 40"),
        ("steps=1000000000", "more than the 30 recorded"),
        ("memory.norm=0.999", "of at least 1"),
        ("memory.norm=.inf", "not a finite number"),
        ("memory.slow_bandwidth=0.5B/s", "write from 1B/s"),
        ("memory.hbm_bandwidth=1e12TB/s", "to 1000PB/s"),
        ("memory.hbm_share=0", "above 0"),
        ("memory.weights=1e30PiB", "larger than any memory"),
        (f"memory.tiers=[{', '.join(f'{{tier: t{i}, bandwidth: 1TB/s}}' for i in range(17))}]",
         "write at most 16"),
    ],
)  # fmt: skip
def test_a_size_beyond_the_machine_is_refused_before_it_starts(
    refused: Refuse, scenario: str, setting: str, wanted: str
) -> None:
    (line,) = refused("bound", scenario, "--set", setting)
    assert wanted in line
    assert len(line) < 300


@pytest.mark.usefixtures("four_gib")
def test_a_table_of_pages_and_steps_that_does_not_fit_is_refused(
    refused: Refuse, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsim.sim.placement.load._BYTES_OF_CELL", 10**6)
    (line,) = refused("bound", scenario, "--set", "memory.exclusive=true")
    assert "240 pages at 30 steps on several tiers take about" in line


def test_traces_that_fit_one_by_one_but_not_together_are_refused(
    refused: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "t.arrow")
    write_attention(small_trace(), path)
    monkeypatch.setattr(machine_memory, "machine_bytes", lambda: 24 * 72 * 3)
    given = [word for _ in range(4) for word in ("--attention", path)]
    (line,) = refused("bound", *given, "--policy", "static")
    assert "4 traces with 96 pages in all rows take about" in line


@pytest.mark.parametrize("exclusive", [False, True])
def test_schedules_of_ages_are_refused_and_not_written_with_other_times(
    tmp_path: Path, exclusive: bool
) -> None:
    """Pages of a TiB at a byte a second: 35,000 years each, which their table still says."""
    write_attention(small_trace(page_bytes=2**40), tmp_path / "t.arrow")
    memory = MemorySettings(slow_bandwidth=1, hbm_bandwidth=1, exclusive=exclusive)
    given = PlacementScenario(
        attention=("t.arrow",), memory=memory, policies=("static",),
        selection=SelectionSettings(kind="dense"),
    )  # fmt: skip
    (case,) = bound(given, base=tmp_path)
    assert 24 * 2**40 / 2 < case.bound_s < 24 * 2**40
    assert case.comparison.rows[0].gap >= 0
    with pytest.raises(InputError, match="years, more than a schedule's nanoseconds can count"):
        list(case.schedules())


@pytest.mark.usefixtures("four_gib")
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--prompt-tokens", "1000000000"], "pages in all rows"),
        (["--prompt-tokens", "9999999999999"], "at most 2147483647"),
        (["--prompt-tokens", "900", "--tokens", "1000000000"], "pages in all rows"),
        (["--prompt-tokens", "900", "--heads", "1000000000"], "at most 32768"),
        (["--prompt-tokens", "131072", "--heads", "300"], "and this machine has 4 GiB"),
        (["--prompt-tokens", "900", "--page-tokens", "9" * 30], "at most 2147483647"),
        (["--prompt-tokens", "900", "--page-bytes", "9" * 30], "at most 1099511627776"),
        (["--prompt-tokens", "900", "--keep", "nan"], "write a share such as 0.4"),
        (["--prompt-tokens", "900", "--variation", "nan"], "write a number from 0 to 10"),
    ],
)
def test_a_draw_beyond_the_machine_is_refused_before_it_starts(
    refused: Refuse, tmp_path: Path, options: list[str], wanted: str
) -> None:
    out = str(tmp_path / "o.arrow")
    (line,) = refused("record", "generate", *options, "--out", out)
    assert wanted in line


@pytest.mark.parametrize(
    ("profiles", "wanted"),
    [
        ('{"heads": []}', "the list of heads is empty"),
        ('{"heads": [{"layer": 0}]}', "holds no head profiles"),
        (
            '{"heads": [{"layer": 0, "kv_head": 0, "constant": 0.5, "decaying": [0.1, 0, 0],'
            ' "neighbour": 0.1, "near": [1, 1, 1, 1, 1, 1, 1], "sinks": [1], "zipf": 1e308}]}',
            "head (0, 0) is none that a fit writes",
        ),
        (
            '{"heads": [{"layer": 0, "kv_head": 0, "constant": 0.5, "decaying": [0.1],'
            ' "neighbour": 0.1, "near": [1], "sinks": [1], "zipf": 1}]}',
            "head (0, 0) is none that a fit writes",
        ),
    ],
)
def test_profiles_that_no_fit_writes_are_refused(
    refused: Refuse, tmp_path: Path, profiles: str, wanted: str
) -> None:
    path, out = tmp_path / "p.json", tmp_path / "o.arrow"
    path.write_text(profiles)
    given = ("--prompt-tokens", "900", "--profiles", str(path), "--out", str(out))
    (line,) = refused("record", "generate", *given)
    assert line.startswith(f"{path}: ")
    assert wanted in line


def small_trace(**changes: Any) -> AttentionTrace:
    """Three steps of two heads over four pages."""
    step = np.repeat(np.arange(3), 2)
    trace = AttentionTrace(
        step=step,
        request=np.zeros(6, np.int64),
        layer=np.zeros(6, np.int32),
        kv_head=np.tile(np.arange(2, dtype=np.int32), 3),
        offsets=np.arange(0, 25, 4),
        pages=np.tile(np.arange(4, dtype=np.int32), 6),
        scores={"mass": np.full(24, 0.25, np.float16)},
        scales={},
        page_tokens=16,
        page_bytes=4096,
        prompt_tokens=60,
        source="by hand",
    )
    return replace(trace, **changes)


@pytest.mark.usefixtures("four_gib")
@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"page_bytes": 2**41}, "vsim.page_bytes: is '2199023255552'; write at most 1099511627776"),
        (
            {"page_bytes": 10**5000},
            "vsim.page_bytes: is '1000000000000000000000000000000000000000'",
        ),
        ({"page_tokens": 10**30}, "vsim.page_tokens: is '1000000000000000000000000000000'"),
        ({"prompt_tokens": 2**31}, "vsim.prompt_tokens: is '2147483648'; write at most 2147483647"),
        ({"prompt_tokens": 2**31 - 1}, "vsim.prompt_tokens: 134,217,729 pages of context and"),
        ({"step": np.array([0, 0, 1, 1, 2**40, 2**40])}, "column step: is 1099511627776; write"),
        ({"request": np.full(6, 2**40)}, "column request: is 1099511627776; write at most"),
        ({"layer": np.full(6, 40_000, np.int32)}, "column layer: is 40000; write at most 32767"),
        ({"kv_head": np.tile([0, 50_000], 3).astype(np.int32)}, "row 1, column kv_head: is 50000"),
        ({"facts": {"mass_kept": "most"}}, "vsim.mass_kept: is 'most'; write the share"),
        ({"facts": {"mass_kept": "nan"}}, "vsim.mass_kept: is 'nan'; write the share"),
    ],
)
def test_a_trace_that_claims_too_much_is_refused_as_it_is_read(
    refused: Refuse, tmp_path: Path, changes: dict[str, Any], wanted: str
) -> None:
    path = tmp_path / "t.arrow"
    sizes = {name: changes[name] for name in changes if isinstance(changes[name], int)}
    if sizes.get("page_bytes", 0) > 10**1000:  # more digits than Python prints of a number
        table = pa.ipc.open_file(str(written(tmp_path / "u.arrow"))).read_all()
        extra = {"page_tokens": "16", "prompt_tokens": "60", "page_bytes": "1" + "0" * 5000}
        write_table(table.replace_schema_metadata(None), path, "attention",
                    Provenance("by hand", extra=extra))  # fmt: skip
    else:
        write_attention(small_trace(**changes), path)
    (line,) = refused("bound", "--attention", str(path), "--policy", "static")
    assert line.startswith(f"{path}: ")
    assert wanted in line


def written(path: Path) -> Path:
    write_attention(small_trace(), path)
    return path


def test_layers_and_heads_may_have_any_numbers_that_fit(tmp_path: Path) -> None:
    """They were laid out densely: two rows asked for sixteen terabytes."""
    path = tmp_path / "t.arrow"
    trace = small_trace(
        step=np.array([0, 0, 0, 1, 1, 1]),
        request=np.array([0, 7, 2**31 - 1] * 2),
        layer=np.array([0, 32_767, 5] * 2, np.int32),
        kv_head=np.array([-1, 32_767, 0] * 2, np.int32),
    )
    write_attention(trace, path)
    reads = select(read_attention(path), TopShare(0.5))
    reads.check()
    assert reads.n_pages == 12
    assert reads.layer.tolist() == [0] * 4 + [32_767] * 4 + [5] * 4
    assert reads.kv_head.tolist() == [-1] * 4 + [32_767] * 4 + [0] * 4
    assert reads.request.tolist() == [0] * 4 + [7] * 4 + [2**31 - 1] * 4
    assert reads.reads_per_step.tolist() == [6, 6]


def test_a_window_of_any_width_reads_what_there_is() -> None:
    every = select(small_trace(), Dense())
    for sinks, window in ((0, 10**30), (10**30, 1), (2**63, 2**63)):
        found = select(small_trace(), SlidingWindow(sinks, window))
        assert found.pages.tolist() == every.pages.tolist()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--prompt-tokens", "100"], "has 7 pages at its first step; record a prompt of 70"),
        (["--prompt-tokens", "1200", "--tokens", "1"], "has 1 rows in 1 steps"),
        (["--prompt-tokens", "1200", "--keep", "0.1"], "lists 8 pages in a row; keep 15 or more"),
    ],
)
def test_a_recording_too_short_for_a_fit_is_refused(
    refused: Refuse, tmp_path: Path, options: list[str], wanted: str
) -> None:
    from vsim.traces.attention_generator import GeneratorSpec, generate

    given = dict(zip(options[::2], options[1::2], strict=True))
    spec = GeneratorSpec(
        prompt_tokens=int(given["--prompt-tokens"]),
        steps=int(given.get("--tokens", "5")),
        heads=1,
        kept=float(given.get("--keep", "0.4")),
    )
    path = tmp_path / "t.arrow"
    write_attention(generate(spec), path)
    (line,) = refused("record", "fit", str(path), "--out", str(tmp_path / "p.json"))
    assert line.startswith(f"{path}: ")
    assert wanted in line


def test_recordings_of_two_models_are_not_fitted_together(refused: Refuse, tmp_path: Path) -> None:
    from vsim.traces.attention_generator import GeneratorSpec, generate

    for name, heads in (("a", 1), ("b", 2)):
        write_attention(generate(GeneratorSpec(1200, 5, heads=heads)), tmp_path / f"{name}.arrow")
    files = [str(tmp_path / "a.arrow"), str(tmp_path / "b.arrow")]
    (line,) = refused("record", "fit", *files, "--out", str(tmp_path / "p.json"))
    assert line == f"{files[1]}: has 2 heads, and {files[0]} has 1; fit to one model"
