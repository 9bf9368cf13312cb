"""`vsim bound TRACE --capacity`: what it prints and writes, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.command_line import run

Bound = Callable[..., "Done"]
ROWS = [[1, 2], [3, 4], [1, 2], [3, 4], [1, 2, 5]]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "alternating.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "timestamp": 1000 * at,
                    "input_length": 512 * len(ids),
                    "output_length": 4,
                    "hash_ids": ids,
                }
            )
            + "\n"
            for at, ids in enumerate(ROWS)
        )
    )
    return path


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Bound:
    def call(*arguments: object) -> Done:
        code = run(monkeypatch, "bound", *map(str, arguments))
        return Done(code, *capfd.readouterr())

    return call


def test_two_conversations_that_alternate_by_hand(
    bound: Bound, trace: Path, tmp_path: Path
) -> None:
    """Of 11 blocks six were used before. Two blocks' room holds two of them over each pair of slots
    that overlap, three one more; LRU's two hold the last request's, three one more that is found.
    """
    out = tmp_path / "found.json"
    done = bound(trace, "--capacity-blocks", "2,3,4", "--json", out, "--model", "llama-3.1-8b")
    assert done.code == 0
    assert all(len(line) <= 100 for line in done.out.splitlines())
    found = json.loads(out.read_text())
    assert found["blocks"] == 11
    assert found["reused_blocks"] == 6
    assert [each["blocks"] for each in found["capacities"]] == [2, 3, 4]
    hits = [round(11 * each["bound_hit_ratio"]) for each in found["capacities"]]
    assert hits == [4, 5, 6]
    for each, lru in zip(found["capacities"], (0, 3, 6), strict=True):
        assert round(11 * each["policies"]["lru"]) == lru
        assert each["policies"]["belady"] == pytest.approx(each["bound_hit_ratio"])
        assert set(each["values"]) == {"hits", "prefill_flops"}
        for value in each["values"].values():
            assert all(s <= value["bound_share"] + 1e-12 for s in value["policies"].values())


def test_capacities_in_bytes_are_blocks_of_a_model_s_kv(
    bound: Bound, trace: Path, tmp_path: Path
) -> None:
    """512 tokens of Llama-3.1-8B are 512 x 131,072 B = 64 MiB in bf16 and half that in fp8."""
    out = tmp_path / "found.json"
    for kv, blocks in (("bf16", 2), ("fp8", 4)):
        done = bound(trace, "--capacity", "128MiB", "--model", "llama-3.1-8b", "--kv", kv,
                     "--policy", "lru", "--json", out)  # fmt: skip
        assert done.code == 0
        (each,) = json.loads(out.read_text())["capacities"]
        assert each["blocks"] == blocks
        assert set(each["policies"]) == {"lru"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--capacity", "1GiB"], "--capacity: needs a model"),
        (
            ["--capacity", "1KiB", "--model", "llama-3.1-8b"],
            "--capacity: 1KiB is less than a block",
        ),
        (["--capacity-blocks", "0"], "--capacity-blocks: '0' is no number of blocks"),
        (["--capacity-blocks", "1,,2"], "--capacity-blocks: '1,,2' is no list"),
        (["--capacity-blocks", "5", "--policy", "lur"], "--policy: 'lur' is unknown"),
        (["--capacity-blocks", "5", "--kv", "fp8"], "--kv: does nothing without --model"),
        (["--capacity-blocks", "5", "--machine", "h100"], "--machine: does nothing without"),
        (["--capacity-blocks", "5", "--out", "x"], "--out: does nothing with --capacity"),
        (["--capacity-blocks", "5", "--hbm-share", "1"], "--hbm-share: does nothing with"),
        (["--model", "llama-3.1-8b"], "--model: does nothing without --capacity"),
    ],
)
def test_what_cannot_act_is_refused(
    bound: Bound, trace: Path, arguments: list[str], message: str
) -> None:
    done = bound(trace, *arguments)
    assert done.code == 2
    assert message in done.err


def test_a_trace_without_prefix_blocks_is_refused(bound: Bound, tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("timestamp_s,prompt_tokens,output_tokens\n0,10,1\n")
    done = bound(path, "--capacity-blocks", "5")
    assert done.code == 2
    assert "has no prefix blocks" in done.err


def test_a_trace_is_not_overwritten(bound: Bound, trace: Path) -> None:
    before = trace.read_text()
    done = bound(trace, "--capacity-blocks", "5", "--json", trace)
    assert done.code == 2
    assert trace.read_text() == before
