"""No placement's decode steps beat the time that a run prints as its bound."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples
from tests.sim.engine.round_machine import GB, round_machine

from vsim.sim.attention_run.batch import Batch, load_batch
from vsim.sim.attention_run.certified import certify_decode
from vsim.sim.attention_run.memory import Memory
from vsim.sim.attention_run.placing import placements
from vsim.sim.attention_run.run import run_attention
from vsim.sim.attention_run.work import Work, decode_work, timed
from vsim.sim.bounds.certificate import Certificate
from vsim.sim.bounds.false_certificate import FalseCertificateError
from vsim.sim.engine.topology import topology
from vsim.sim.placement.case import Case
from vsim.sim.scenario.scenario import Workload
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.faults import InputError

from .small import MODEL, ROUND, run, scenario, trace, write

FAST = {name for name in placements() if name not in ("interval-annealing", "window-share")}
# a link that both ways share, and a tier whose own memory is slower than its link
MACHINES: dict[str, Any] = {
    "duplex link": {},
    "shared link": {
        "links": (("lpddr", "hbm", 250 * GB, 250 * GB, 0, "root"),
                  ("host", "hbm", 10 * GB, 10 * GB, 0, None),
                  ("nvme", "host", 4 * GB, 4 * GB, 0, None)),
        "groups": {"root": 250 * GB},
    },
    # bodies of hours, on a tier 10^12 times as slow as HBM
    "slow link": {
        "links": (("lpddr", "hbm", 1, 1, 0, None),
                  ("host", "hbm", 10 * GB, 10 * GB, 0, None),
                  ("nvme", "host", 4 * GB, 4 * GB, 0, None)),
    },
    "slow memory": {"memories": {"lpddr": ("lpddr", 120 * GB, 60 * GB, 0)}},
    "slow way down": {
        "links": (("lpddr", "hbm", 250 * GB, 20 * GB, 0, None),
                  ("host", "hbm", 10 * GB, 10 * GB, 0, None),
                  ("nvme", "host", 4 * GB, 4 * GB, 0, None)),
    },
}  # fmt: skip
EXPONENTS = (math.inf, 6.0, 2.0, 1.0, 1 + 1e-12, 1.0005, 1e6, 1e12)


@st.composite
def costs(draw: st.DrawFn) -> StepCost:
    return replace(
        ROUND,
        weight_read_bytes=draw(st.sampled_from([0.0, 10_000.0, 60_000.5, 6e9 + 0.1])),
        head_bytes=draw(st.sampled_from([0.0, 777.7])),
        launch_ns=draw(st.sampled_from([0.0, 1_000.0])),
        comm_fixed_ns=draw(st.sampled_from([0.0, 33.7])),
        attend_exponent=draw(st.sampled_from(EXPONENTS)),
        hbm_write_bytes_per_s=draw(st.sampled_from([1e12, 3e11])),
        flops_per_pair=draw(st.sampled_from([0.0, 1e6, 1e8])),
    )


@given(
    cost=costs(),
    machine=st.sampled_from(sorted(MACHINES)),
    mode=st.sampled_from(["back", "through"]),
    sparsity=st.sampled_from([0.0, 0.5, 0.8]),
    prompt_tokens=st.integers(1, 90),
    steps=st.integers(2, 30),
    hbm_pages=st.integers(1, 40),
    seed=st.integers(0, 100),
)
@settings(max_examples=examples(15), deadline=None)
def test_no_policy_takes_less_than_the_bound(
    cost: StepCost, machine: str, mode: str, sparsity: float, prompt_tokens: int, steps: int,
    hbm_pages: int, seed: int,
) -> None:  # fmt: skip
    with TemporaryDirectory() as folder:
        names = write(Path(folder), trace(prompt_tokens, steps, seed=seed))
        described = round_machine(**MACHINES[machine])
        for placement in sorted(placements()):
            settings = scenario(
                names,
                placement=placement,
                write=mode,
                hbm_pages=hbm_pages,
                workload={"selection": {"sparsity": sparsity}},
            )
            result = run_attention(settings, described, MODEL, cost, Path(folder))
            placed = result.summary["placement"]
            assert placed["decode_s"] >= placed["bound_s"], placement
            assert placed["gap"] >= 0
            assert placed["attention_gap"] >= 0
            assert placed["policy"] == placement


def small_case(
    folder: Path, cost: StepCost, machine: str, mode: str, hbm_pages: int, **shape: Any
) -> tuple[Batch, Case, Memory]:
    """One layer's worth of the pieces that a run puts together."""
    names = write(folder, trace(**shape))
    workload = Workload.model_validate({"attention": names, "selection": {"sparsity": 0.5}})
    batch = load_batch(workload, MODEL, "bf16", folder)
    memory = Memory.of(topology(round_machine(**MACHINES[machine]), cost, ("hbm", "lpddr")), cost)
    tiers = memory.two_tiers(
        hbm_pages=hbm_pages,
        exclusive=mode == "back",
        norm=cost.attend_exponent,
    )
    return batch, Case(batch.reads, tiers, "free", batch.seen), memory


@given(
    cost=costs(),
    machine=st.sampled_from(sorted(MACHINES)),
    mode=st.sampled_from(["back", "through"]),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=examples(40), deadline=None)
def test_no_schedule_drawn_at_random_takes_less_than_the_bound(
    cost: StepCost, machine: str, mode: str, seed: int
) -> None:
    draw = np.random.Generator(np.random.PCG64(seed))
    with TemporaryDirectory() as folder:
        batch, case, memory = small_case(
            Path(folder), cost, machine, mode, 6, prompt_tokens=25, steps=8, seed=seed
        )
    for _ in range(20):
        schedule = drawn_schedule(case, draw)
        moves = case.cost(schedule)
        work = decode_work(batch, cost, moves, keeps_copies=mode == "through")
        found = certify_decode(case, work, timed(work, cost, memory))
        assert found.decode_ns >= found.bound_ns


def drawn_schedule(case: Case, draw: np.random.Generator) -> Schedule:
    """Any pages that exist, step by step, as many as HBM holds."""
    page, step = [], []
    for t in range(case.reads.steps):
        there = np.flatnonzero(case.reads.born < t)
        held = draw.permutation(there)[: case.tiers.hbm_pages]
        page.append(held)
        step.append(np.full(len(held), t))
    pages, steps = np.concatenate(page), np.concatenate(step)
    return Schedule.of(pages, steps, steps)


@pytest.mark.parametrize("seed", range(6))
def test_the_best_of_all_schedules_is_close_to_the_bound(tmp_path: Path, seed: int) -> None:
    """HBM holds one page, three steps read four or more: every placement there is, is tried.

    The last step writes four pages through, on a way of their own. The bound may hold parts of
    pages, which tells most where there are so few.
    """
    cost = replace(ROUND, weight_read_bytes=0.0, launch_ns=0.0)
    batch, case, memory = small_case(
        tmp_path, cost, "duplex link", "through", 1, prompt_tokens=18, steps=3, seed=seed
    )
    everything: list[int] = []
    for held in itertools.product(range(-1, case.reads.n_pages), repeat=3):
        pairs = [(page, t) for t, page in enumerate(held) if page >= 0]
        pages = np.array([page for page, _ in pairs], np.int64)
        steps = np.array([t for _, t in pairs], np.int64)
        if len(pages) and (case.reads.born[pages] >= steps).any():
            continue
        moves = case.cost(Schedule.of(pages, steps, steps))
        work = decode_work(batch, cost, moves, keeps_copies=True)
        times = timed(work, cost, memory)
        everything.append(int(times.step_ns.sum()))
    found = certify_decode(case, work, times)
    assert found.bound_ns <= min(everything) <= 1.15 * found.bound_ns


@pytest.mark.parametrize("mode", ["back", "through"])
@pytest.mark.parametrize("placement", sorted(FAST))
def test_without_weights_and_launch_a_run_takes_what_vsim_bound_says(
    tmp_path: Path, placement: str, mode: str
) -> None:
    cost = replace(
        ROUND, weight_read_bytes=0.0, launch_ns=0.0, kv_write_bytes_per_token=0.0,
        flops_per_token=0.0,
    )  # fmt: skip
    batch, case, _ = small_case(
        tmp_path, cost, "duplex link", mode, 12, prompt_tokens=60, steps=30, seed=4
    )
    result = run(
        tmp_path,
        trace(60, 30, seed=4),
        cost=cost,
        placement=placement,
        write=mode,
        hbm_pages=12,
        workload={"selection": {"sparsity": 0.5}},
    )
    case = replace(case, start="first-fill")
    schedule = placements()[placement](case, 0).schedule
    whole_ns = np.ceil(case.cost(schedule).step_s * 1e9 - 1e-6)
    assert result.summary["placement"]["decode_s"] == pytest.approx(whole_ns.sum() / 1e9, abs=1e-15)
    assert len(batch) == 1


def test_where_placement_gains_next_to_nothing_the_gap_is_next_to_nothing(tmp_path: Path) -> None:
    """All pages fit, and 16 of them take HBM 4.096 ns: the link 10.24 for a single one.

    A step launches for 1,000 ns, reads 60 of weights and writes 0.1024; then 4.096 of attention, if
    HBM alone serves it. The bound may share 16 pages with the link, x of them where 10.24 x =
    0.256 (16 - x): 0.39 pages, 3.9961 ns. Four steps of bodies of 64.0985 are 256.39.
    """
    cost = replace(
        ROUND, hbm_read_bytes_per_s=1e13, hbm_write_bytes_per_s=1e13, weight_read_bytes=6e5
    )
    placed = run(tmp_path, trace(35, 4), cost=cost, hbm_pages=1_000).summary["placement"]
    assert placed["decode_s"] == 4 * 1_065 / 1e9
    assert placed["bound_s"] == (4 * 1_000 + 256) / 1e9
    assert placed["gap"] == 4_260 / 4_256 - 1
    # without 4,000 of launch and 240.4 of products and writes, rounded down
    assert placed["attention_gap"] == 20 / 16 - 1
    assert placed["hit_ratio"] == 1


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_what_no_placement_changes_is_added_to_the_bound_whole(
    tmp_path: Path, exponent: float
) -> None:
    """6 ms of weights a step beside some ten ns of attention: a bound of the longer would be off
    by all of attention, one over tiers with weights as traffic of HBM by what the link could take
    beside it. This one is off by what a schedule of any kind wastes of attention, and by rounding.
    """
    cost = replace(ROUND, weight_read_bytes=6e9, attend_exponent=exponent)
    batch, case, memory = small_case(
        tmp_path, cost, "duplex link", "through", 6, prompt_tokens=25, steps=8
    )
    draw = np.random.Generator(np.random.PCG64(1))
    for _ in range(10):
        moves = case.cost(drawn_schedule(case, draw))
        work = decode_work(batch, cost, moves, keeps_copies=True)
        found = certify_decode(case, work, timed(work, cost, memory))
        # 8 steps: launch, weights, 1.024 ns of writing
        assert found.fixed_ns == 8 * 1_000
        assert found.dense_ns == pytest.approx(8 * (6e6 + 1.024), rel=1e-15)
        reads_ns = found.solved.certificate.exact_s * 10**9
        assert reads_ns > 8 * 5
        assert found.bound_ns == found.fixed_ns + math.floor(found.dense_ns + reads_ns)
        # no step's attention takes longer than all of its pages over the link, one after the other
        most_ns = 2 * 12 * 10.24 + 1
        assert 0 <= found.gap <= most_ns / 6e6


def whole_ns_of_attention(tmp_path: Path, steps: int) -> tuple[Case, Work, Memory, StepCost]:
    """Pages of 1 ns in HBM, all of which fit, and tiers that add up: nothing is better than that.

    No page is born, so nothing is written through beside them. Products take 1,000 ns and half a
    millionth, which is less than steps are rounded by.
    """
    cost = replace(
        ROUND, weight_read_bytes=2.56e6 * (1 + 5e-10), hbm_read_bytes_per_s=2.56e12,
        kv_write_bytes_per_token=0.0, flops_per_token=0.0, launch_ns=0.0, attend_exponent=1.0,
    )  # fmt: skip
    batch, case, memory = small_case(
        tmp_path, cost, "duplex link", "through", 1_000, prompt_tokens=21, steps=steps
    )
    static = placements()["static"](replace(case, start="first-fill"), 0)
    work = decode_work(batch, cost, case.cost(static.schedule), keeps_copies=True)
    return case, work, memory, cost


def test_no_more_of_the_products_is_added_than_they_take(tmp_path: Path) -> None:
    """One step: 1,000.0000005 ns, and 8 of its 12 pages. It ends at 1,008, and so does the bound.

    With the products rounded up the bound would be 1,009, which the step itself beats.
    """
    case, work, memory, cost = whole_ns_of_attention(tmp_path, 1)
    times = timed(work, cost, memory)
    found = certify_decode(case, work, times)
    pages = int(case.reads.reads_per_step.sum())
    assert found.decode_ns == 1_000 + pages == 1_008
    assert 0 < found.dense_ns - 1_000 < Fraction(1, 10**6)
    exact = Certificate.of(Fraction(pages, 10**9))
    assert found.solved.certificate.exact_s == pytest.approx(pages / 1e9, rel=1e-12)
    best = replace(found, solved=replace(found.solved, certificate=exact))
    assert best.bound_ns == best.decode_ns
    with pytest.raises(FalseCertificateError, match="bound on a run's decode steps is"):
        replace(best, dense_ns=Fraction(math.ceil(best.dense_ns)))


def test_products_rounded_up_step_by_step_would_give_a_false_bound(tmp_path: Path) -> None:
    case, work, memory, cost = whole_ns_of_attention(tmp_path, 8)
    times = timed(work, cost, memory)
    found = certify_decode(case, work, times)
    assert found.decode_ns == 8 * 1_000 + int(case.reads.reads_per_step.sum())
    assert found.decode_ns - 1 <= found.bound_ns <= found.decode_ns
    up = np.ceil(times.dense_ns)
    with pytest.raises(FalseCertificateError, match="bound on a run's decode steps is"):
        certify_decode(case, work, replace(times, dense_ns=up))


def test_a_run_whose_bound_is_false_does_not_come_to_be(tmp_path: Path) -> None:
    batch, case, memory = small_case(
        tmp_path, ROUND, "duplex link", "through", 6, prompt_tokens=25, steps=8
    )
    moves = case.cost(placements()["static"](replace(case, start="first-fill"), 0).schedule)
    work = decode_work(batch, ROUND, moves, keeps_copies=True)
    found = certify_decode(case, work, timed(work, ROUND, memory))
    assert replace(found, decode_ns=found.bound_ns).gap == 0
    with pytest.raises(FalseCertificateError, match="bound on a run's decode steps is"):
        replace(found, decode_ns=found.bound_ns - 1)


def test_rounding_is_taken_off_the_bound_of_many_steps_and_of_long_ones(tmp_path: Path) -> None:
    batch, case, memory = small_case(
        tmp_path, ROUND, "slow link", "through", 6, prompt_tokens=25, steps=20
    )
    moves = case.cost(placements()["static"](replace(case, start="first-fill"), 0).schedule)
    work = decode_work(batch, ROUND, moves, keeps_copies=True)
    found = certify_decode(case, work, timed(work, ROUND, memory))
    exact_ns = found.dense_ns + found.solved.certificate.exact_s * 10**9
    assert exact_ns > 2**46
    assert found.body_ns == math.floor(exact_ns) - math.floor(
        exact_ns / 2**46 + Fraction(20, 10**6)
    )
    assert replace(found, steps=5_000_000).body_ns == found.body_ns - 5


def test_a_step_of_days_is_refused(tmp_path: Path) -> None:
    """As in a run of requests: a page over a link of a thousandth of a byte a second is a month."""
    links = (("lpddr", "hbm", 1e-3, 1e-3, 0, None), ("host", "hbm", 10 * GB, 10 * GB, 0, None),
             ("nvme", "host", 4 * GB, 4 * GB, 0, None))  # fmt: skip
    with pytest.raises(InputError, match=r"machine: a step takes 1.8e\+07 s, and no server's"):
        run(tmp_path, trace(9, 4), machine=round_machine(links=links), hbm_pages=1)


def test_steps_of_ages_are_refused(tmp_path: Path) -> None:
    """A page of 2.5 kB at a millionth of a byte a second is eighty years."""
    links = (("lpddr", "hbm", 1e-6, 1e-6, 0, None), ("host", "hbm", 10 * GB, 10 * GB, 0, None),
             ("nvme", "host", 4 * GB, 4 * GB, 0, None))  # fmt: skip
    with pytest.raises(InputError, match=r"machine: this run's steps take [\d,]+ years, more than"):
        run(tmp_path, trace(90, 10), machine=round_machine(links=links), hbm_pages=4)
