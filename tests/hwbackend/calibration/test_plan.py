"""What is measured: round sizes, and nothing that predictions are judged by."""

import pytest

from vsim.hwbackend.calibration.measure import RUNNERS
from vsim.hwbackend.calibration.plan import WHOLE, Plan, full_plan, quick_plan
from vsim.hwbackend.calibration.ragged import Ragged
from vsim.sim.fidelity.gpu.case_list import case_list
from vsim.sim.fidelity.gpu.cases import AttentionCase, CopyCase, MappingCase, MixedCase
from vsim.traces.schema import PROBES

PLANS = pytest.mark.parametrize("plan", [full_plan(), quick_plan()], ids=["full", "quick"])
EXPERTS = {"hidden", "intermediate", "per_token", "experts"}
SHAPES = {"heads", "kv_heads", "head_dim", "n", "k", *EXPERTS}


@PLANS
def test_no_point_is_measured_twice_and_each_has_who_measures_it(plan: Plan) -> None:
    assert len(set(plan.points)) == len(plan.points)
    assert {point.probe for point in plan.points} == set(RUNNERS) == set(PROBES)


@PLANS
def test_all_sizes_but_shapes_are_powers_of_two_or_three_times_one(plan: Plan) -> None:
    for point in plan.points:
        for name, value in point.sizes:
            if name not in SHAPES and value:
                may = (point.probe, name) == ("vmm", "chunk") or point.probe == "decode_attention"
                third = value // 3 if may and value % 3 == 0 else value
                assert third & (third - 1) == 0, str(point)


def test_a_quick_plan_measures_a_part_of_what_a_full_one_does() -> None:
    quick, full = set(quick_plan().points), set(full_plan().points)
    assert len(quick) < len(full) / 3
    shared = {(point.probe, point.variant) for point in full}
    assert {(point.probe, point.variant) for point in quick} <= shared


def test_no_case_that_predictions_are_judged_by_is_a_calibration_point() -> None:
    points = full_plan().points
    decodes = {
        (at["heads"], at["kv_heads"], at["head_dim"], at["batch"], at["context"])
        for at in points
        if at.probe == "decode_attention"
    }
    mixes = {
        (at.variant, at["share"] / WHOLE, at["heads"], at["batch"], at["context"])
        for at in points
        if at.probe == "mixed_attention"
    }
    copies = {at["bytes"] for at in points if at.probe == "copy"}
    chunks = {
        (at.variant.split()[0], at["chunk"], at["chunks"]) for at in points if at.probe == "vmm"
    }
    ragged = {
        tuple(sorted(Ragged.of(at).contexts.tolist()))
        for at in points
        if at.probe == "ragged_attention"
    }
    judged = 0
    for case in case_list():
        if isinstance(case, AttentionCase):
            assert len(set(case.contexts)) != 2 or tuple(sorted(case.contexts)) not in ragged
            heads = (case.heads.heads, case.heads.kv_heads, case.heads.head_dim)
            mean = sum(case.contexts) / len(case.contexts)
            assert (*heads, len(case.contexts), mean) not in decodes, case.name
        elif isinstance(case, MixedCase):
            for slow, share in (("peer", case.peer_share), ("host", case.host_share)):
                load = (case.heads.heads, len(case.contexts), case.contexts[0])
                assert (slow, share, *load) not in mixes, case.name
        elif isinstance(case, CopyCase):
            assert case.bytes not in copies, case.name
        elif isinstance(case, MappingCase):
            assert (case.tier, case.chunk_bytes, case.count) not in chunks, case.name
        else:
            continue
        judged += 1
    assert judged > 50
