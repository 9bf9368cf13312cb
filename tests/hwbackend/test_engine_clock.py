"""The engine's clock, and what is read out of it."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsim.hwbackend.servers.clocked import line_through, steps_of, told
from vsim.hwbackend.servers.engine_clock import COLUMNS, EngineClock

MS = 1_000_000


class Engine:
    """Something whose method is timed."""

    def begin(self, tokens: int) -> int:
        return 2 * tokens


def test_a_clock_times_a_method_while_it_runs_and_changes_no_result(tmp_path: Path) -> None:
    clock = EngineClock()

    class Timed(Engine):
        pass

    clock.time(Timed, "begin", "execute", lambda _, result, given: (result, *given))
    assert Timed().begin(3) == 6
    clock.start()
    assert Timed().begin(4) == 8
    assert clock.stop(tmp_path / "kept.json.gz") == 1
    assert Timed().begin(5) == 10
    with gzip.open(tmp_path / "kept.json.gz", "rt") as file:
        kept = json.load(file)
    assert kept["columns"] == {name: list(columns) for name, columns in COLUMNS.items()}
    ((start, end, worked, *values),) = kept["rows"]["execute"]
    assert values == [8, 4]
    assert 0 <= end - start < 1e9
    assert 0 <= worked <= end - start + MS
    assert sum(map(len, kept["rows"].values())) == 1


class Stream:
    """A GPU's stream, on which a mark comes 3 ms after the last."""

    def __init__(self) -> None:
        self.ms = 0.0

    def mark(self) -> "Mark":
        self.ms += 3
        return Mark(self.ms)


class Mark:
    """Where a stream was, ms."""

    def __init__(self, at_ms: float) -> None:
        self.at_ms = at_ms
        self.waited = 0

    def synchronize(self) -> None:
        self.waited += 1

    def elapsed_time(self, other: "Mark") -> float:
        return other.at_ms - self.at_ms


def test_a_step_is_marked_before_and_behind_its_layers_and_behind_its_tokens(
    tmp_path: Path,
) -> None:
    clock = EngineClock(Stream().mark)

    class Timed(Engine):
        pass

    class Sampling(Engine):
        pass

    clock.time(Timed, "begin", "execute", lambda _, __, ___: (1,))
    clock.time(Sampling, "begin", "sample", lambda _, __, ___: ())
    clock.start()
    Sampling().begin(1)  # of a step that began before the clock did
    for _ in range(2):
        Timed().begin(1)
        Sampling().begin(1)
    clock.stop(tmp_path / "kept.json.gz")
    with gzip.open(tmp_path / "kept.json.gz", "rt") as file:
        assert json.load(file)["gpu_us"] == [[3000, 6000, 9000], [12000, 15000, 18000]]


def test_what_decodes_take_on_the_gpu_is_told_by_requests() -> None:
    document = clocked()
    # step i ends 5 ms and i times 10 us after the last, and has its layers behind it 300 us before
    ends = np.cumsum(5_000 + 10 * np.arange(40))
    document["gpu_us"] = [[int(end) - 4_900, int(end) - 300, int(end)] for end in ends]
    told_of_gpu = list(told(document))[5:]
    # of the groups 33 to 40 requests alone have eight steps behind two that only decode: those of
    # 11 to 13 and 21 to 25 requests are beside prompts and stores; the median is of i = 35.5
    assert told_of_gpu == [
        "8 decodes of 36.5 take the GPU 5,355 us, 300 of that from the last layer on"
    ]
    document["gpu_us"][-1].pop()  # a step that drew no tokens
    assert len(list(told(document))) == 5


def clocked() -> dict[str, Any]:
    """Forty steps, 10 ms apart: 1 to 40 requests; two with prompts, three with stores."""
    rows: dict[str, list[list[int]]] = {name: [] for name in COLUMNS}
    for i in range(40):
        at, n = 10 * MS * i, i + 1
        prompt = {10: 300, 20: 900}.get(i, 0)
        took = MS // 2 + n * 20_000, 2 * MS + n * 5_000 + prompt * 5_000, MS, n * 7_000
        rows["schedule"].append([at, at + took[0], took[0], n + prompt, prompt > 0, 0, prompt or 1])
        at += took[0]
        rows["execute"].append([at, at + took[1], took[1], n])
        at += took[1]
        rows["sample"].append([at, at + took[2], took[2]])
        at += took[2]
        rows["output"].append([at, at + MS, 0])
        rows["update"].append([at + MS, at + MS + took[3], took[3]])
        rows["loop"].append([10 * MS * i, 10 * MS * (i + 1), sum(took)])
    for i, blocks in ((20, 10), (21, 30), (22, 50)):
        at = rows["execute"][i][0]
        rows["transfer"].append([at, at + MS + blocks * 30_000, 0, 1, blocks << 21])
    return {"columns": COLUMNS, "rows": rows}


def test_each_call_is_of_the_iteration_in_which_it_began() -> None:
    steps = steps_of(clocked())
    np.testing.assert_array_equal(steps.requests, np.arange(1, 41))
    assert steps.transfers.nonzero()[0].tolist() == [20, 21, 22]
    assert steps.decodes.sum() == 40 - 4
    assert steps.host_ms[0] == pytest.approx(0.5 + 2 + 1 + 0.032)
    assert steps.waits == pytest.approx(0.1)


def test_what_is_told_is_what_was_put_in() -> None:
    working, decodes, pieces, none, moved = told(clocked())
    assert working.endswith("waits for tokens 10%")
    # 0.5 + 2 + 1 ms and 20 + 5 + 7 us a request; of that 1 ms and 7 us by sample and update
    assert "one takes 3.53 ms and 32.0 us for each other, 1.01 ms and 7.0 us" in decodes
    assert pieces == "1 steps in pieces take 5.4 · 5.4 · 5.4 ms"
    assert none == "1 steps without a graph take 8.7 · 8.7 · 8.7 ms"
    assert moved == "3 transfers take 1.00 ms and 30 us a block to begin"


def test_a_line_leaves_out_what_was_interrupted() -> None:
    over = np.arange(40.0)
    values = 2.0 + 0.5 * over
    values[7] = 400.0
    base, slope = line_through(over, values)
    assert (base, slope) == (pytest.approx(2.0), pytest.approx(0.5))
