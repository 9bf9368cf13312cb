import io
from typing import Any

import pytest
from rich.cells import cell_len

from vsim.reports.terminal import show_summary


def tier(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "capacity_bytes": 1_099_511_627_776_000,
        "peak_bytes": 109_951_162_777_600,
        "mean_bytes": 123_456_789_012.5,
        "read_bytes": 999_999_999_999,
        "written_bytes": 0,
        "hit_share": 0.123,
        "evicted_pages": 123_456_789,
    }


def summary() -> dict[str, Any]:
    latency = {"mean": 123_456.7, "p50": 0.0123, "p90": None, "p99": 99_999_999.0}
    link = {
        "forward_bytes": 999_999_999_999_999,
        "reverse_bytes": 1,
        "forward_busy_share": 1.0,
        "reverse_busy_share": 0.001,
    }
    return {
        "scenario": "a scenario with a long and winding name that says much",
        "machine": {"name": "4xa100-nvlink", "gpus": 4},
        "model": {"name": "deepseek-v3"},
        "requests": {"submitted": 1_234_567, "completed": 1_234_000, "rejected": 567},
        "simulated_s": 98_765.4,
        "engine_wall_s": 12.34,
        "throughput": {
            "requests_per_s": 12.5,
            "prompt_tokens_per_s": 12_345_678.9,
            "output_tokens_per_s": 1234.5,
        },
        **dict.fromkeys(("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"), latency),
        "prefix_hit_ratio": 0.366,
        "faults_per_1000_tokens": 1.2345,
        "faults_by_cause": {"promotion": 123_456, "in_flight": 2, "swap_in": 0, "write_back": 7},
        "preemptions": 12_345,
        "recomputed_tokens": 98_765_432,
        "concurrent_requests": {"mean": 123.45, "peak": 256},
        "fragmentation": 0.0123,
        "tiers": [tier(name) for name in ("hbm", "host", "nvme", "network")],
        "links": [{"name": name, **link} for name in ("host-hbm", "nvme-host", "network-host")],
        "time_share": {
            "compute": 0.1,
            "hbm_weights": 0.5,
            "lower_tier:network": 0.3,
            "idle_no_requests": 0.1,
            "vmm": 0.0,
        },
        "step": {"count": 1_234_567, "mean_ms": 12.3, "mean_requests": 99.9},
        "verdict": {
            "bound_by": "bandwidth of network",
            "why": "30 % of the time steps wait for pages " * 4,
            "relief": "twice its bandwidth saves at most 15 % of the time",
        },
    }


def shown(out: str | None = None) -> str:
    text = io.StringIO()
    show_summary(summary(), out, file=text)
    return text.getvalue()


def test_no_line_is_wider_than_100_columns_and_none_is_cut() -> None:
    lines = shown("a/very/long/folder/" * 8).splitlines()
    assert max(cell_len(line) for line in lines) <= 100
    assert "…" not in "".join(lines)


def test_the_summary_fits_a_screen() -> None:
    assert len(shown().splitlines()) <= 40


def test_output_that_is_no_terminal_is_plain_text() -> None:
    assert "\x1b" not in shown()


@pytest.mark.parametrize(
    "piece",
    [
        "1,234,000 of 1,234,567 requests completed, 567 rejected",
        "deepseek-v3 on 4xa100-nvlink (4 GPUs)",
        "prefix hits 36.6%",
        "promotion 123,456, in flight 2, write back 7",
        "12,345 preemptions (98,765,432 tokens computed again)",
        "Bound by bandwidth of network",
        "What would help: twice its bandwidth",
        "hbm weights 50.0%, lower tier network 30.0%",
        "0.0123 ms",
        "123 s",
        "–",
        "1,000 TiB",
        "host → network 1 B 0.1%",
    ],
)
def test_the_figures_are_there(piece: str) -> None:
    assert piece in " ".join(shown().split())


def test_the_folder_is_named_when_one_was_written() -> None:
    assert "Wrote results/a" in shown("results/a")
    assert "Wrote" not in shown()


@pytest.mark.parametrize(
    ("bound_s", "text"),
    [
        (0.0577599, "57.75 ms"),
        (0.05775, "57.75 ms"),
        (1.99999, "1.999 s"),
        (1.00001e-6, "1.000 us"),
    ],
)
def test_what_no_placement_can_beat_is_never_shown_too_long(bound_s: float, text: str) -> None:
    placed = {
        "policy": "learned",
        "oracle": False,
        "hit_ratio": 0.5,
        "moved_bytes": 0,
        "gap": 0.1,
        "attention_gap": 0.2,
        "bound_s": bound_s,
        "certificate": {
            "launch_and_communication_s": 0.0,
            "dense_kernels_s": 0.0,
            "solver": "HiGHS",
        },
    }
    found = io.StringIO()
    show_summary({**summary(), "placement": placed, "bound_wall_s": 1.0}, None, file=found)
    assert f"more than {text}, which" in " ".join(found.getvalue().split())


def test_replicas_are_counted_and_the_verdict_says_that_it_is_about_the_first() -> None:
    found = summary()
    replicated = found | {"machine": {"name": "4xa100-nvlink", "gpus": 4, "replicas": 4}}
    text = io.StringIO()
    show_summary(replicated, file=text)
    assert "on 4xa100-nvlink (4 replicas, 4 GPUs)" in " ".join(text.getvalue().split())
    assert "The first of 4 replicas is bound by" in " ".join(text.getvalue().split())
    text = io.StringIO()
    show_summary(found, file=text)
    assert "replica" not in text.getvalue()


def test_several_kv_groups_are_shown_and_one_is_not() -> None:
    def group(name: str) -> dict[str, Any]:
        sizes = {f"{held}_bytes": 2**31 for held in ("peak", "requests_peak", "decoding_peak")}
        return {"name": name, "layers": 52, "page_bytes": 2**20, **sizes}

    found = io.StringIO()
    for names in (["full"], ["full", "window_1024"]):
        groups = [group(name) for name in names]
        show_summary({**summary(), "kv_groups": groups}, None, file=found)
    assert " ".join(found.getvalue().split()).count("window_1024 52 1.00 MiB 2.00 GiB") == 1
    assert found.getvalue().count("of those decoding") == 1


def test_pages_that_were_dropped_are_told_with_why_and_what_would_keep_them() -> None:
    found = summary()
    hbm, _, nvme, network = found["tiers"]
    hbm |= {"dropped_pages": 5_050}  # for want of room in host
    nvme |= {"dropped_pages": 3}  # which network would give back too late
    network |= {"takes_pages": False}
    text = io.StringIO()
    show_summary(found, file=text)
    said = " ".join(text.getvalue().split())
    assert (
        "dropped: 5,050 pages evicted from hbm found no room in host (backlog: wait keeps what is"
        " evicted) dropped: 3 pages evicted from nvme: a page is computed sooner than it comes from"
        " network (engine.loading: always keeps them)"
    ) in said
