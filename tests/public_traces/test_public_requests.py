"""Imports of public traces have the figures that are known of them.

The folder is `$VSIM_TRACES`, or `../shared/traces` beside the repository.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from tests.traces.test_prefix_reuse import lru_hits

from vsim.sim.eviction.cache_replay import replay_prefixes
from vsim.traces.importers import Imported, ImportOptions, import_requests
from vsim.traces.info import describe_requests
from vsim.traces.prefix_chain import dense_codes
from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.reading import read_requests
from vsim.traces.requests import write_requests

REPOSITORY = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("VSIM_TRACES") or REPOSITORY.parent / "shared" / "traces")

pytestmark = pytest.mark.public_traces


def imported(name: str, **options: object) -> Imported:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no public trace {name}: set VSIM_TRACES to the folder that holds it")
    return import_requests(path, options=ImportOptions(**options))  # type: ignore[arg-type] # fields by name


def rounded(values: object) -> tuple[int, int, int]:
    """Return mean, p50 and p99 as they are published, in whole tokens, a half rounded up."""
    return tuple(int(getattr(values, name) + 0.5) for name in ("mean", "p50", "p99"))  # type: ignore[return-value] # three of them


def test_mooncake_conversation_has_its_published_figures() -> None:
    requests = imported("mooncake_conversation.jsonl.gz").requests
    sizes = (1_000, 3_000, 10_000, 30_000, 100_000)
    info = describe_requests(requests, sizes)
    assert info.requests == 12_031
    assert round(info.span_s) == 3_537
    assert rounded(info.prompt_tokens) == (12_035, 6_909, 85_400)
    assert rounded(info.output_tokens) == (343, 350, 1_119)
    prefix = info.prefix
    assert prefix is not None
    assert (prefix.references, prefix.unique, prefix.block_tokens) == (288_500, 182_790, 512)
    assert round(100 * prefix.hit_ratio, 1) == 36.6
    lru = [round(100 * prefix.lru_hit_ratio[size], 1) for size in sizes]
    assert lru == [4.5, 6.5, 21.2, 32.6, 36.4]


def test_the_compiled_replay_of_mooncake_equals_the_plain_one() -> None:
    requests = imported("mooncake_conversation.jsonl.gz").requests
    offsets, ids = requests.prefix_offsets, requests.prefix_ids
    rows = [ids[offsets[row] : offsets[row + 1]].tolist() for row in range(len(requests))]
    reuse = PrefixReuse.of(offsets, ids)
    for size in (1_000, 10_000):
        assert reuse.lru_hits_of_requests(size).tolist() == lru_hits(rows, size)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mooncake_conversation.jsonl.gz", {}),
        ("claude_code_agentic.parquet", {"session_rate_per_s": 0.05, "seed": 7}),
        ("lmcache_agent.parquet", {}),
        ("sharegpt300_multiturn.parquet", {}),
    ],
)
def test_one_pass_equals_replays_at_random_capacities(name: str, options: dict[str, float]) -> None:
    requests = imported(name, **options).requests
    offsets, ids = requests.prefix_offsets, requests.prefix_ids
    reuse = PrefixReuse.of(offsets, ids)
    codes, count = dense_codes(ids)
    enough = int(reuse.lru_curve()[0][-1])  # where everything that comes back is found
    # fifty replays of 38 million references take half a minute
    replays = 50 if len(ids) < 10**7 or os.environ.get("VSIM_FULL_SCALE") else 5
    draws = np.random.Generator(np.random.PCG64(12)).random(replays)
    sizes = np.unique(np.exp(draws * np.log(enough)).astype(np.int64) + 1)
    of_requests = [
        replay_prefixes(offsets, codes, min(size, count), "lru", n_keys=count).hits
        for size in sizes.tolist()
    ]
    for size, hits in zip(sizes.tolist(), of_requests, strict=True):
        np.testing.assert_array_equal(reuse.lru_hits_of_requests(size), hits)
    assert reuse.lru_hits(sizes).tolist() == [int(hits.sum()) for hits in of_requests]


def test_azure_conversation_has_its_published_figures() -> None:
    result = imported("AzureLLMInferenceTrace_conv.csv.gz")
    info = describe_requests(result.requests)
    assert result.notes == ()
    assert info.requests == 19_366
    assert round(info.span_s) == 3_502
    assert rounded(info.prompt_tokens) == (1_155, 1_020, 4_142)
    assert rounded(info.output_tokens) == (211, 129, 601)
    assert info.arrival_cv == pytest.approx(1.09, abs=0.005)
    assert info.prefix is None


def test_agentic_sessions_keep_their_prefixes_and_think_times() -> None:
    result = imported("claude_code_agentic.parquet", session_rate_per_s=0.05, seed=7)
    info = describe_requests(result.requests)
    assert info.requests == 21_956
    assert info.sessions == 330
    assert info.prefix is not None
    assert (info.prefix.references, info.prefix.block_tokens) == (38_215_555, 64)
    assert info.prefix.hit_ratio == pytest.approx(0.961, abs=0.0005)  # within a session, by ids
    assert info.think_s is not None
    assert info.think_s.p50 == 10.0
    assert result.licence == "Apache-2.0"
    requests = result.requests
    children = np.nonzero(requests.parent >= 0)[0]
    assert (requests.parent[children] < children).all()
    assert (requests.session[requests.parent[children]] == requests.session[children]).all()
    assert (np.diff(requests.arrival_ns) >= 0).all()


def test_agent_calls_hit_nine_tokens_in_ten() -> None:
    requests = imported("lmcache_agent.parquet").requests
    info = describe_requests(requests)
    assert info.requests == 1_619
    assert info.sessions == 69
    assert info.prefix is not None
    hit_tokens = info.prefix.hit_ratio * info.prefix.references * 16
    assert round(100 * hit_tokens / int(requests.prompt_tokens.sum()), 1) == 90.0


def test_multi_turn_chat_hits_its_prefixes() -> None:
    info = describe_requests(imported("sharegpt300_multiturn.parquet").requests)
    assert info.requests == 300
    assert info.prefix is not None
    assert round(100 * info.prefix.hit_ratio, 1) == 7.7


# The file's own mean is 298,956,566 / 10,111 = 29,567.46; the folder's README rounds it to 29,568.
@pytest.mark.parametrize(
    ("name", "count", "lengths"),
    [
        ("lengths_arxiv_long.parquet", 10_111, (29_567, 27_843, 44_959)),
        ("lengths_arxiv_summarization.parquet", 28_257, None),
        ("lengths_sharegpt8k.parquet", 30_731, None),
    ],
)
def test_tables_of_lengths_get_drawn_arrivals(
    name: str, count: int, lengths: tuple[int, int, int] | None
) -> None:
    result = imported(name, session_rate_per_s=2.0)
    info = describe_requests(result.requests)
    assert info.requests == count
    if lengths is not None:
        assert rounded(info.prompt_tokens) == lengths
    assert info.arrival_rate_per_s == pytest.approx(2.0, rel=0.05)
    assert result.notes == (f"{count} arrivals drawn with seed 0 at 2 requests/s",)


@pytest.mark.parametrize(
    "name",
    ["mooncake_conversation.jsonl.gz", "AzureLLMInferenceTrace_conv.csv.gz",
     "lmcache_agent.parquet", "sharegpt300_multiturn.parquet", "lengths_arxiv_long.parquet"],
)  # fmt: skip
def test_an_imported_trace_is_sound_and_the_same_when_read_again(name: str, tmp_path: Path) -> None:
    requests = imported(name).requests
    write_requests(requests, tmp_path / "t.arrow")
    again = read_requests(tmp_path / "t.arrow")
    for column in ("arrival_ns", "prompt_tokens", "output_tokens", "session", "prefix_ids"):
        np.testing.assert_array_equal(getattr(again, column), getattr(requests, column))
