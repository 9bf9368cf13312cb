"""Generated workloads."""

from contextlib import nullcontext, suppress
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.seeds import examples

from vsim.traces.faults import InputError
from vsim.traces.prefix_chain import first_broken
from vsim.traces.request_check import request_faults
from vsim.traces.requests import Requests, requests_table
from vsim.traces.synth import SynthSpec, draw_lengths, synthesise
from vsim.traces.validation.tables import faults_in

PLAIN: dict[str, Any] = {
    "requests": 4000,
    "seed": 1,
    "arrivals": {"rate_per_s": 5.0},
    "prompt_tokens": "0.5:1020,0.99:4142",
    "output_tokens": "0.5:129,0.99:601",
}
CHAT: dict[str, Any] = {
    **PLAIN,
    "prompt_tokens": "0.5:60,0.9:200",
    "sessions": {
        "turns_mean": 4.0, "think_s_mean": 10.0, "follow_up_tokens": 30, "most_tokens": 6000,
        "system_prompts": 5, "system_prompt_tokens": 500, "zipf": 1.0,
    },
    "tenants": [{"name": "a", "share": 3}, {"name": "b", "share": 1, "priority": 2}],
}  # fmt: skip


def made(base: dict[str, Any], **changes: Any) -> Requests:
    return synthesise(SynthSpec.model_validate({**base, **changes}))


def same(one: Requests, other: Requests) -> bool:
    return all(
        np.array_equal(getattr(one, f.name), getattr(other, f.name))
        for f in fields(Requests)
        if f.name != "source"
    )


def test_the_same_specification_gives_the_same_requests() -> None:
    assert same(made(CHAT), made(CHAT))
    assert not same(made(CHAT), made(CHAT, seed=2))


def test_lengths_go_through_the_quantiles_asked_for() -> None:
    random = np.random.Generator(np.random.PCG64(3))
    drawn = draw_lengths(random, ((0.1, 50), (0.5, 1000), (0.99, 4000), (1.0, 5000)), 200_000)
    for quantile, tokens in ((0.1, 50), (0.5, 1000), (0.99, 4000)):
        assert np.mean(drawn <= tokens) == pytest.approx(quantile, abs=0.005)
    assert drawn.max() == 5000


def test_one_point_is_a_constant() -> None:
    assert set(made(PLAIN, output_tokens=7).output_tokens.tolist()) == {7}


@pytest.mark.parametrize(
    ("arrivals", "cv"),
    [
        ({"rate_per_s": 5.0}, 1.0),
        ({"rate_per_s": 5.0, "process": "gamma", "cv": 3.0}, 3.0),
        ({"rate_per_s": 5.0, "process": "gamma", "cv": 0.5}, 0.5),
    ],
)
def test_gaps_have_the_rate_and_variation_asked_for(arrivals: dict[str, Any], cv: float) -> None:
    gaps = np.diff(made(PLAIN, requests=100_000, arrivals=arrivals).arrival_ns)
    assert 1e9 / gaps.mean() == pytest.approx(5.0, rel=0.04)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.04)


def test_on_off_bursts_keep_the_rate_and_leave_pauses() -> None:
    arrivals = {"rate_per_s": 5.0, "process": "onoff", "on_s": 2.0, "off_s": 6.0}
    gaps = np.diff(made(PLAIN, requests=100_000, arrivals=arrivals).arrival_ns) / 1e9
    assert 1 / gaps.mean() == pytest.approx(5.0, rel=0.05)
    assert np.median(gaps) == pytest.approx(np.log(2) / 20, rel=0.1)
    assert gaps.max() > 10


def check_conversations(requests: Requests) -> None:
    """Each turn holds the turns before it, in tokens and in prefix ids."""
    block = requests.block_tokens
    for row in np.nonzero(requests.parent >= 0)[0]:
        above = requests.parent[row]
        assert above < row
        assert requests.session[above] == requests.session[row]
        before = requests.prompt_tokens[above] + requests.output_tokens[above]
        assert requests.prompt_tokens[row] > before
        assert requests.think_ns[row] >= 0
        assert requests.arrival_ns[row] > requests.arrival_ns[above] + requests.think_ns[row]
        if block:
            start, end = requests.prefix_offsets[above : above + 2]
            own = requests.prefix_offsets[row]
            chain = requests.prefix_ids[start:end]
            np.testing.assert_array_equal(requests.prefix_ids[own : own + end - start], chain)
    roots = requests.parent < 0
    assert (requests.think_ns[roots] == -1).all()
    full = requests.prompt_tokens // block if block else 0
    assert (np.diff(requests.prefix_offsets) == full).all()
    assert first_broken(requests.prefix_offsets, requests.prefix_ids) is None
    assert (np.diff(requests.arrival_ns) >= 0).all()
    assert requests.arrival_ns[0] >= 0


@settings(max_examples=examples(30), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 300),
    turns=st.floats(1.01, 20),
    rate=st.floats(0.01, 1000),
    block=st.sampled_from([0, 1, 16, 100, 512]),
    most=st.sampled_from([None, 502, 700, 5000]),
)
def test_every_conversation_extends_itself(
    seed: int, count: int, turns: float, rate: float, block: int, most: int | None
) -> None:
    sessions = {**CHAT["sessions"], "turns_mean": turns, "most_tokens": most}
    if not 0 < block <= sessions["system_prompt_tokens"]:  # no block tells system prompts apart
        sessions |= {"system_prompts": 1, "zipf": None}
    requests = made(
        CHAT, requests=count, seed=seed, sessions=sessions, block_tokens=block,
        arrivals={"rate_per_s": rate},
    )  # fmt: skip
    assert len(requests) == count
    check_conversations(requests)
    assert (requests.prompt_tokens > 500).all()
    if most:
        assert (requests.prompt_tokens + requests.output_tokens <= most).all()


def test_fewer_requests_are_the_first_of_more() -> None:
    assert same(made(CHAT, requests=16), made(CHAT, requests=17).head(16))


def test_sessions_share_the_blocks_of_their_system_prompt_only() -> None:
    requests = made(CHAT, block_tokens=100)
    first = requests.prefix_ids[requests.prefix_offsets[:-1][requests.parent < 0]]
    assert len(set(first.tolist())) == 5
    counts = np.sort(np.bincount(np.unique(first, return_inverse=True)[1]))[::-1]
    weights = 1 / np.arange(1, 6)
    np.testing.assert_allclose(counts / counts.sum(), weights / weights.sum(), atol=0.05)
    sessions_of: dict[int, set[int]] = {}
    for row in range(len(requests)):
        start, end = requests.prefix_offsets[row : row + 2]
        for identity in requests.prefix_ids[start + 5 : end].tolist():
            sessions_of.setdefault(identity, set()).add(int(requests.session[row]))
    assert max(map(len, sessions_of.values())) == 1


def test_tenants_have_their_shares_and_priorities() -> None:
    requests = made(CHAT)
    assert requests.tenant_names == ("a", "b")
    roots = requests.parent < 0
    assert np.mean(requests.tenant[roots] == 0) == pytest.approx(0.75, abs=0.05)
    np.testing.assert_array_equal(requests.priority, np.where(requests.tenant == 1, 2, 0))


CHANGES: list[dict[str, Any]] = [
    {"requests": 3000},
    {"seed": 9},
    {"arrivals": {"rate_per_s": 6.0}},
    {"arrivals": {"rate_per_s": 5.0, "process": "gamma", "cv": 2.0}},
    {"arrivals": {"rate_per_s": 5.0, "process": "gamma", "cv": 2.5}},
    {"arrivals": {"rate_per_s": 5.0, "process": "onoff", "on_s": 1.0, "off_s": 3.0}},
    {"arrivals": {"rate_per_s": 5.0, "process": "onoff", "on_s": 2.0, "off_s": 3.0}},
    {"arrivals": {"rate_per_s": 5.0, "process": "onoff", "on_s": 1.0, "off_s": 4.0}},
    {"prompt_tokens": "0.5:61,0.9:200"},
    {"output_tokens": "0.5:130,0.99:601"},
    {"block_tokens": 32},
    {"tenants": []},
    {"tenants": [{"name": "c", "share": 3}, {"name": "b", "share": 1, "priority": 2}]},
    {"tenants": [{"name": "a", "share": 2}, {"name": "b", "share": 1, "priority": 2}]},
    {"tenants": [{"name": "a", "share": 3}, {"name": "b", "share": 1, "priority": 3}]},
    *(
        {"sessions": {**CHAT["sessions"], name: value}}
        for name, value in {
            "turns_mean": 5.0, "think_s_mean": 11.0, "follow_up_tokens": 31, "most_tokens": 3000,
            "system_prompts": 6, "system_prompt_tokens": 501, "zipf": 0.5,
        }.items()
    ),
]  # fmt: skip


def test_every_setting_changes_the_requests() -> None:
    results = [made(CHAT), *(made(CHAT, **change) for change in CHANGES)]
    for i, one in enumerate(results):
        for j in range(i):
            assert not same(one, results[j]), (i, j)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"requests": 0}, "greater than 0"),
    ({"arrivals": {"rate_per_s": 0}}, "greater than 0"),
    ({"arrivals": {"rate_per_s": float("nan")}}, "greater than 0|finite"),
    ({"arrivals": {"rate_per_s": 1, "cv": 2}}, "cv does nothing with process: poisson"),
    ({"arrivals": {"rate_per_s": 1, "process": "gamma"}}, "process: gamma needs cv"),
    ({"arrivals": {"rate_per_s": 1, "process": "onoff", "on_s": 1}}, "onoff needs off_s"),
    ({"arrivals": {"rate_per_s": 1, "process": "weibull"}}, "'poisson', 'gamma' or 'onoff'"),
    ({"prompt_tokens": "1020"}, "'1020' is no point; write it like 0.5:1020"),
    ({"prompt_tokens": "0.5:1020,0.4:2000"}, "quantiles and lengths rise"),
    ({"prompt_tokens": "0.5:1020,0.9:1000"}, "quantiles and lengths rise"),
    ({"prompt_tokens": "1.5:1020"}, "1.5 is no quantile"),
    ({"prompt_tokens": "0.5:0"}, "0 is no length in tokens"),
    ({"prompt_tokens": "1:5"}, "has no point between 0 and 1"),
    ({"sessions": {"turns_mean": 0.5}}, "greater than or equal to 1"),
    ({"sessions": {"turns_mean": 2}}, "turns_mean above 1 needs think_s_mean"),
    ({"sessions": {"think_s_mean": 2}}, "think_s_mean does nothing with turns_mean: 1"),
    ({"sessions": {"system_prompts": 2}}, "system_prompts needs system_prompt_tokens"),
    ({"sessions": {"system_prompt_tokens": 2}}, "does nothing with system_prompts: 0"),
    ({"sessions": {"zipf": 1.0}}, "zipf does nothing with fewer than two"),
    ({"sessions": {"most_tokens": 1}}, "most_tokens: 1 leaves no room"),
    ({"tenants": [{"name": "a", "share": 1}] * 2}, "tenant 'a' is there more than once"),
    ({"tenants": [{"name": "a", "share": 0}]}, "greater than 0"),
    ({"tenants": [{"name": "a", "share": 2}]}, "share does nothing with one tenant"),
    ({"tenants": [{"name": "a"}, {"name": "b", "share": 2}]}, "tenant 'a' needs a share"),
    ({"tenants": [{"name": "a\nb"}]}, "holds what does not print"),
    (
        {"block_tokens": 0, "sessions": {"system_prompts": 2, "system_prompt_tokens": 9}},
        "system_prompts: 2 does nothing with block_tokens: 0",
    ),
    (
        {"block_tokens": 16, "sessions": {"system_prompts": 2, "system_prompt_tokens": 9}},
        "no block of 16 tokens lies in 9 that sessions share",
    ),
    ({"prompt_tokens": ",".join(f"{i / 2000}:5" for i in range(1500))}, "has 1,500 points"),
    ({"arrivals": {"rate_per_s": 1, "process": "gamma", "cv": 1e-200}}, "greater than or equal"),
    ({"block_token": 3}, "Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_wrong_setting_is_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SynthSpec.model_validate({**PLAIN, **changes})


TOO_MUCH: list[tuple[dict[str, Any], str, str]] = [
    ({"arrivals": {"rate_per_s": 1e-9}}, "arrivals.rate_per_s", "take more than 100 years"),
    ({"arrivals": {"rate_per_s": 1e-320}}, "arrivals.rate_per_s", "take more than 100 years"),
    ({"arrivals": {"rate_per_s": 1e-9, "process": "gamma", "cv": 2}}, "arrivals.rate_per_s",
     "take more than 100 years"),
    ({"arrivals": {"rate_per_s": 1e-6, "process": "onoff", "on_s": 1e-6, "off_s": 1e-6}},
     "arrivals.on_s", "on and off periods"),
    ({"requests": 2_000_000, "sessions": {"turns_mean": 1e4, "think_s_mean": 1e6}},
     "sessions.turns_mean", "this machine has"),
    ({"requests": 200_000, "prompt_tokens": 10**8, "block_tokens": 1}, "block_tokens",
     "this machine has"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "place", "words"), TOO_MUCH)
def test_more_than_a_trace_or_the_memory_holds_is_refused_before_it_is_made(
    changes: dict[str, Any], place: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsim.traces.machine_memory.machine_bytes", lambda: 2**30)
    with pytest.raises(InputError) as raised:
        made(PLAIN, **changes)
    (fault,) = raised.value.faults
    assert fault.place == place
    assert words in fault.message


@settings(max_examples=examples(30), deadline=None)
@given(
    rate=st.floats(1e-7, 1e6),
    think=st.floats(0, 1e7),
    turns=st.floats(1.01, 1000),
    tokens=st.sampled_from(["0.5:1,0.99:100000000", "0.5:100000000", "0:5,0.5:900,1:1000"]),
    block=st.sampled_from([0, 1_000_000]),
)
def test_whatever_is_drawn_is_a_sound_trace_or_refused(
    rate: float, think: float, turns: float, tokens: str, block: int
) -> None:
    sessions = {"turns_mean": turns, "think_s_mean": think}
    # sessions start at rate / turns; beyond or near the limit, in seconds, either may be right
    slow = 200 * turns / rate > 1e9
    with nullcontext() if not slow else suppress(InputError):
        requests = made(
            PLAIN, requests=200, arrivals={"rate_per_s": rate}, prompt_tokens=tokens,
            output_tokens=tokens, sessions=sessions, block_tokens=block,
        )  # fmt: skip
        check_sound(requests, block)


def check_sound(requests: Requests, block: int) -> None:
    assert request_faults(requests) == []
    assert faults_in(requests_table(requests), "requests", "t", {"block_tokens": str(block)}) == []


def test_a_single_tenant_has_no_share() -> None:
    requests = made(PLAIN, tenants=[{"name": "a", "priority": 3}])
    assert requests.tenant_names == ("a",)
    assert set(requests.priority.tolist()) == {3}


def test_lengths_may_be_a_mapping_text_or_pairs() -> None:
    spec = SynthSpec.model_validate(PLAIN)
    for form in ({0.5: 1020, 0.99: 4142}, {"0.5": 1020, "0.99": 4142}, [[0.5, 1020], [0.99, 4142]]):
        assert SynthSpec.model_validate({**PLAIN, "prompt_tokens": form}) == spec


def test_every_setting_is_documented() -> None:
    schema = SynthSpec.model_json_schema()
    for part in [schema, *schema["$defs"].values()]:
        for name, field in part["properties"].items():
            assert len(field.get("description", "")) > 5, name
