"""What ends with its context or its last mapping, by the program that the trial runs on a GPU."""

from pathlib import Path

import pytest
from tests.hwbackend.preload import building

from vsim.hwbackend.preload.trial.bench import Bench
from vsim.hwbackend.preload.trial.ends_program import CHUNK, MIB
from vsim.hwbackend.preload.trial.parts import PARTS


def test_bytes_balance_whatever_memory_ends_with(
    bench: building.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: 1,000 bytes and the chunk are given back; 30 and 50 MiB go with the reset, and 90
    with the last release. The driver that tests run on has no contexts but primary ones.
    """
    monkeypatch.setenv("LD_LIBRARY_PATH", str(bench.driver))
    found = PARTS["ends"](Bench(tmp_path, bench.library, 1))
    assert found.faults == []
    assert [row["mode"] for row in found.rows] == ["plain", "record", "manage"]
    for row in found.rows:
        assert row["said"]["used"] == {
            "two blocks": 80 * MIB, "a chunk mapped": 80 * MIB + CHUNK, "and unmapped": 80 * MIB,
            "reset": 0, "a block after it": 90 * MIB,
        }  # fmt: skip
        assert row["said"]["same"], "a chunk's handle is the same whoever asks"
    for row in found.rows[1:]:
        balance = row["balance"]
        assert balance["taken_bytes"] == 1000 + CHUNK + 170 * MIB
        assert (balance["freed_bytes"], balance["released_bytes"]) == (1000 + CHUNK, 170 * MIB)
        assert balance["live_bytes"] == 0
