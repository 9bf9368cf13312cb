"""Cases are values with JSON both ways, and the list holds none that a calibration takes."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsim.sim.fidelity.gpu.case_json import case_of, case_text
from vsim.sim.fidelity.gpu.case_list import case_list
from vsim.sim.fidelity.gpu.cases import (
    CLASS_NAMES,
    AttentionCase,
    CopyCase,
    MappingCase,
    MixedCase,
    SparseCase,
)
from vsim.sim.fidelity.gpu.heads import Heads
from vsim.sim.fidelity.gpu.loop_cases import LoopCase
from vsim.traces.schema import GPU_CASE_CLASSES

CASES = case_list()


def test_every_case_of_the_list_comes_back_from_its_json() -> None:
    for case in CASES:
        text = case_text(case)
        assert case_of(text) == case
        assert case_text(case_of(text)) == text


def test_the_list_is_long_and_has_each_class_on_one_gpu() -> None:
    assert len(CASES) >= 60
    listed = set(CLASS_NAMES) - {"replays"}  # which are made of what `vsim replay` wrote
    assert {case.of_class for case in CASES if case.gpus == 1} == listed
    assert {case.gpus for case in CASES} == {1, 2}
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_schema_and_the_cases_name_the_same_classes() -> None:
    assert CLASS_NAMES == GPU_CASE_CLASSES


def test_no_case_is_a_point_of_the_calibration() -> None:
    contexts = {512, 2048, 8192, 32768, 131072}
    batches = {1, 4, 16, 64, 256}
    shares = {k / 64 for k in range(0, 65)} | {k / 256 for k in range(0, 17)}
    sizes = {(64 << 10) << (2 * k) for k in range(7)}
    for case in CASES:
        if isinstance(case, AttentionCase):
            equal = len(set(case.contexts)) == 1
            taken = equal and case.contexts[0] in contexts and len(case.contexts) in batches
            assert not taken, case.name
        if isinstance(case, MixedCase):
            for share in (case.peer_share, case.host_share):
                assert share == 0 or share in (0.25,) or share not in shares, case.name
        if isinstance(case, CopyCase):
            assert case.bytes not in sizes, case.name


def test_each_sparse_case_reads_twenty_gigabytes_or_more() -> None:
    from vsim.sim.fidelity.gpu.sparse_plan import (
        ATTEND_HBM,
        ATTEND_SLOW,
        plan_path,
        plans_folder,
        read_plan,
    )

    folder = plans_folder()
    assert folder is not None
    for case in CASES:
        if isinstance(case, SparseCase):
            plan = read_plan(plan_path(case, folder))
            read = plan.counts(ATTEND_HBM).sum() + plan.counts(ATTEND_SLOW).sum()
            assert read * case.heads.page_bytes * case.replicas >= 20e9, case.name


def test_a_loop_s_contexts_grow_by_a_token_a_step() -> None:
    for case in CASES:
        if isinstance(case, LoopCase):
            tokens = [sum(case.contexts(step)) for step in range(case.steps)]
            assert min(tokens) > 0
            whole = sum(s.steps * s.context + s.steps * (s.steps - 1) // 2 for s in case.stays)
            assert sum(tokens) == whole
            assert sum(len(case.copies_of(s)) for s in range(case.steps)) == len(case.copies)


@given(
    st.tuples(st.integers(1, 8), st.sampled_from([1, 2, 8]), st.sampled_from([64, 128])),
    st.integers(1, 64),
    st.lists(st.integers(1, 1 << 20), min_size=1, max_size=20),
)
def test_any_attention_comes_back_from_its_json(
    shape: tuple[int, int, int], layers: int, contexts: list[int]
) -> None:
    group, kv_heads, head_dim = shape
    heads = Heads(group * kv_heads, kv_heads, head_dim)
    case = AttentionCase("any", heads, layers, tuple(contexts))
    assert case_of(case_text(case)) == case


SPOILED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "atention"}, "kind is 'atention'; write one of attention, mixed"),
    ({"layers": "8"}, "layers is '8'; write a whole number"),
    ({"layers": True}, "layers is True; write a whole number"),
    ({"layers": 0}, "layers is 0; write 1 to 1024"),
    ({"contexts": []}, "contexts is empty"),
    ({"contexts": [5, "x"]}, "contexts[1] is 'x'; write a whole number"),
    ({"heads": {"heads": 7, "kv_heads": 2, "head_dim": 64}}, "heads.heads is 7; write a multiple"),
    ({"heads": 3}, "heads is 3; write a JSON object"),
    ({"colour": 1}, "colour is unknown; write name, heads, layers, contexts"),
    ({"layers": None}, "layers is None; write a whole number"),
]


@pytest.mark.parametrize(("changes", "message"), SPOILED)
def test_a_spoiled_case_is_refused_by_field(changes: dict[str, Any], message: str) -> None:
    plain = json.loads(case_text(AttentionCase("a", Heads(8, 2, 64), 2, (5, 6))))
    with pytest.raises(ValueError, match="write") as refused:
        case_of(json.dumps(plain | changes))
    assert message in str(refused.value)


def test_a_missing_field_is_named() -> None:
    plain = json.loads(case_text(MappingCase("m", "burst", "hbm", 2 << 20, 3, 3)))
    del plain["count"]
    with pytest.raises(ValueError, match="count is missing; write it"):
        case_of(json.dumps(plain))


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no JSON"):
        case_of(text)


def test_gqa_shapes_of_five_models_are_in_the_list() -> None:
    shapes = Counter(
        (c.heads.heads, c.heads.kv_heads, c.heads.head_dim)
        for c in CASES
        if isinstance(c, AttentionCase)
    )
    assert {(32, 32, 128), (64, 8, 128), (32, 8, 128), (9, 3, 64)} <= shapes.keys()
