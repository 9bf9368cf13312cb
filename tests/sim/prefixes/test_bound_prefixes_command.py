"""`vsim bound TRACE --capacity`: what it prints and writes, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.command_line import run

from vsim.sim.bounds.false_certificate import FalseCertificateError
from vsim.sim.bounds.prefix_tree import PrefixCertificate, certify_prefixes
from vsim.sim.prefixes import comparison

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
        (["--capacity-blocks", "5", "--model", "gpt-oss-20b"], "keeps KV in groups of layers"),
        (["--capacity", "hbm=1GiB+host=2GiB"], "--capacity: needs a model"),
        (["--capacity-blocks", "hbm=1+host=2"], "--capacity-blocks: names tiers, whose loads"),
        (["--capacity-blocks", "1+2"], "adds sizes; name their tiers"),
        (["--capacity-blocks", "hbm=1+host=2,5"], "names tiers in places only"),
        (["--capacity-blocks", "hbm=1+hbm=2"], "names a tier twice"),
        (["--capacity-blocks", "host=1"], "does not begin with hbm"),
        (["--capacity-blocks", "=1"], "'=1' names no tier"),
        (["--capacity-blocks", "hbm=1+host=2:fp9"], "'fp9' is no precision"),
        (["--capacity-blocks", "hbm=1:fp8+host=2"], "hbm holds KV as --kv says"),
        (["--capacity-blocks", "5:fp8"], "'5:fp8' has a precision and no tier"),
        (["--capacity-blocks", "5", "--loads", "wait"], "--loads: does nothing in one tier"),
        (["--capacity-blocks", "hbm=1+host=2", "--loads", "no"], "--loads: 'no' is unknown"),
        (["--loads", "wait"], "--loads: does nothing without --capacity"),
        (
            ["--capacity-blocks", "hbm=1+tape=2", "--model", "llama-3.1-8b", "--machine", "h100"],
            "h100 has no tier 'tape'",
        ),
        (
            ["--capacity", "1GiB", "--model", "gpt-oss-20b", "--policy", "arc"],
            "--policy: arc takes all blocks for equal",
        ),
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


def test_a_false_certificate_is_neither_printed_nor_written(
    bound: Bound, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_low(*given: object) -> PrefixCertificate:
        true = certify_prefixes(*given)  # type: ignore[arg-type] # passed on as they came
        return replace(true, units=0)

    monkeypatch.setattr(comparison, "certify_prefixes", too_low)
    out = tmp_path / "found.json"
    with pytest.raises(FalseCertificateError, match=r"bug in vsim.*belady saves"):
        bound(trace, "--capacity-blocks", "3", "--json", out)
    assert not out.exists()


@pytest.mark.parametrize("loads", ["wait", "overlap"])
def test_tiers_hit_as_one_cache_and_save_less_by_their_loads(
    bound: Bound, trace: Path, tmp_path: Path, loads: str
) -> None:
    """A block of 64 MiB comes from host memory at 55 GB/s in 67,108,864 / 55e9 = 1.220 ms."""
    out = tmp_path / "found.json"
    done = bound(trace, "--capacity", "hbm=64MiB+host=128MiB,hbm=192MiB+host=32MiB:fp8",
                 "--model", "llama-3.1-8b", "--machine", "h100", "--loads", loads,
                 "--json", out)  # fmt: skip
    assert done.code == 0
    assert all(len(line) <= 100 for line in done.out.splitlines())
    first, second = json.loads(out.read_text())["capacities"]
    assert [tier["parts"] for tier in first["tiers"]] == [1, 2]
    assert [tier["parts"] for tier in second["tiers"]] == [3, 1]
    assert first["tiers"][1]["load_s"] == pytest.approx(67_108_864 / 55e9)
    assert second["tiers"][1]["load_s"] == pytest.approx(67_108_864 / 55e9 / 2)
    assert round(11 * first["bound_hit_ratio"]) == 5
    assert round(11 * second["bound_hit_ratio"]) == 6
    assert first["blocks_found"]["lru"] == [0, 3]
    for each in (first, second):
        for value in each["values"].values():
            assert all(s <= value["bound_share"] + 1e-12 for s in value["policies"].values())
        seconds = each["values"]["prefill_seconds"]
        assert seconds["policies"]["lp-rounding"] >= 0.8 * seconds["bound_share"]


def test_a_model_of_several_groups_is_bounded_in_bytes(
    bound: Bound, trace: Path, tmp_path: Path
) -> None:
    """A block is 24 MiB over both groups; two blocks of one prefix need one of the window."""
    out = tmp_path / "found.json"
    done = bound(trace, "--capacity", "36MiB,72MiB,144MiB", "--model", "gpt-oss-20b", "--json", out)
    assert done.code == 0
    found = json.loads(out.read_text())
    assert found["part_bytes"] == 12_582_912
    # 3, 6 and 12 parts: a prefix of two blocks needs three, so that as many are found as prefixes
    # of two fit over each pair of slots that overlap
    hits = [round(11 * each["bound_hit_ratio"]) for each in found["capacities"]]
    assert hits == [4, 6, 6]
    assert [round(11 * each["policies"]["lp-rounding"]) for each in found["capacities"]] == hits
