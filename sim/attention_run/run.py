"""`run_attention`: from a scenario with traces of attention to a result."""

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from vsim.sim.attention_run.batch import Batch, load_batch
from vsim.sim.attention_run.certified import Certified, certify_decode
from vsim.sim.attention_run.counters import History, engine_result
from vsim.sim.attention_run.log import operations_log
from vsim.sim.attention_run.memory import Memory
from vsim.sim.attention_run.occupancy import occupancy
from vsim.sim.attention_run.placing import place
from vsim.sim.attention_run.prefill import chunks
from vsim.sim.attention_run.rules import (
    Setting,
    refuse_what_cannot_act,
    refuse_what_does_not_fit,
)
from vsim.sim.attention_run.work import (
    Timed,
    Work,
    decode_work,
    joined_times,
    joined_work,
    prefill_work,
    timed,
    weights_of,
)
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.topology import topology
from vsim.sim.machine.machine import Machine
from vsim.sim.model.model import Model
from vsim.sim.model.parallel import check_peer
from vsim.sim.placement.case import Case, Placement
from vsim.sim.results.metrics import summarise
from vsim.sim.results.output import Result, result_of, run_facts
from vsim.sim.results.run_settings import RunSettings
from vsim.sim.results.verdict import verdict
from vsim.sim.scenario.precision import kv_of
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.schedules.cost import Cost
from vsim.sim.timing.step_cost import StepCost


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A batch on its memory, and where a policy put its pages."""

    batch: Batch
    memory: Memory
    case: Case
    placement: Placement
    moves: Cost


def run_attention(
    scenario: Scenario,
    machine: Machine,
    model: Model,
    cost: StepCost,
    base: Path,
    *,
    keeps_tables: bool = True,
) -> Result:
    """Simulate a batch that decodes over recorded attention.

    Args:
        scenario: what to run.
        machine: what it runs on.
        model: what is served.
        cost: what a step costs there.
        base: the folder at which relative paths start.
        keeps_tables: whether the caller has a use for the result's tables.

    Raises:
        InputError: with every fault of the scenario or of its traces.
    """
    setting = Setting(scenario, machine, model, cost, keeps_tables)
    refuse_what_cannot_act(setting)
    check_peer(machine, cost.gpus, setting.tier_names)
    batch = load_batch(scenario.workload, model, kv_of(scenario.precision, model), base)
    refuse_what_does_not_fit(setting, batch)
    net = topology(machine, cost, setting.tier_names)
    began = perf_counter()
    placed = _placed(setting, batch, Memory.of(net, cost))
    keeps_copies = not placed.case.tiers.exclusive
    decode = decode_work(batch, cost, placed.moves, keeps_copies=keeps_copies)
    decode_times = timed(decode, cost, placed.memory)
    history = _history(setting, placed, decode, decode_times)
    operations = operations_log(
        history, placed.case, placed.placement.schedule, scenario.output.operations
    )
    engine = engine_result(history, net, cost.kv_write_bytes_per_token, operations)
    ended = perf_counter()
    certified = certify_decode(placed.case, decode, decode_times)
    return _result(setting, placed, engine, certified, ended - began)


def _placed(setting: Setting, batch: Batch, memory: Memory) -> Placed:
    """Let the policy place the batch's pages."""
    scenario, cost = setting.scenario, setting.cost
    capacity = scenario.tiers[0].capacity or cost.kv_capacity_bytes
    tiers = memory.two_tiers(
        hbm_pages=min(capacity // batch.reads.page_bytes, batch.reads.n_pages),
        exclusive=scenario.tiers[1].write == "back",
        norm=cost.attend_exponent,
    )
    case = Case(batch.reads, tiers, "first-fill", batch.seen)
    placement = place(case, scenario.placement, scenario.seed)
    return Placed(batch, memory, case, placement, case.cost(placement.schedule))


def _history(setting: Setting, placed: Placed, decode: Work, decode_times: Timed) -> History:
    """Put the prompts' steps before those of the decode."""
    batch, case, cost = placed.batch, placed.case, setting.cost
    engine = setting.scenario.engine
    keeps_copies = not case.tiers.exclusive
    resident = case.resident()
    parts = chunks(batch.prompt_tokens, engine.token_budget, engine.chunked_prefill)
    prompts = prefill_work(batch, parts, cost, resident, keeps_copies=keeps_copies)
    work = joined_work(prompts, decode)
    schedule = placed.placement.schedule
    later = schedule.first > 0
    arrives = later & (batch.reads.born[schedule.page] != schedule.first - 1)
    capacity = [tier.capacity for tier in setting.scenario.tiers]
    most = (cost.kv_capacity_bytes, setting.machine.tier(setting.tier_names[1]).capacity.value)
    return History(
        batch=batch,
        parts=parts,
        work=work,
        times=joined_times(timed(prompts, cost, placed.memory), decode_times),
        weight_bytes=weights_of(work, cost),
        held=occupancy(batch, parts, resident, placed.moves.occupancy, keeps_copies=keeps_copies),
        tier_names=setting.tier_names,
        capacity_pages=(
            (capacity[0] or most[0]) // batch.reads.page_bytes,
            (capacity[1] or most[1]) // batch.reads.page_bytes,
        ),
        copied_bytes=int(arrives.sum()) * batch.reads.page_bytes,
        arrived=(int(later.sum()), int(decode.down_bytes.sum()) // batch.reads.page_bytes),
        evicted=int((schedule.last + 1 < batch.steps).sum()),
    )


def _result(
    setting: Setting, placed: Placed, engine: EngineResult, certified: Certified, wall_s: float
) -> Result:
    """Take the metrics, and add what there is to say of the placement."""
    scenario, batch = setting.scenario, placed.batch
    requests = batch.requests()
    facts = replace(
        run_facts(scenario, setting.machine, setting.model, setting.cost, requests),
        batching="lockstep",
        block_tokens=batch.reads.page_tokens,
        page_tokens=batch.reads.page_tokens,
        placement=scenario.placement,
        max_running_requests=len(batch),
    )
    summary = summarise(facts, requests, engine, wall_s)
    summary["bound_wall_s"] = certified.solved.seconds
    summary["placement"] = placement_json(placed.placement, placed.moves, certified)
    settings = RunSettings(scenario, setting.machine, setting.model, setting.cost)
    return result_of({**summary, "verdict": verdict(summary, settings)}, requests, engine)


def placement_json(placement: Placement, moves: Cost, certified: Certified) -> dict[str, Any]:
    """The part of the summary that only a run of recorded attention has.

    `hit_ratio` is the share of the decode steps' page reads that HBM served, `moved_bytes` what was
    promoted and demoted in them; `decode_s` the time of all decode steps, `bound_s` what none can
    beat, `gap` how far the one is above the other, relative; `attention_gap` the same for attention
    alone; `certificate` the parts of `bound_s` and what proposed its multipliers.
    """
    return {
        "policy": placement.name,
        "oracle": placement.oracle,
        "hit_ratio": moves.hit_ratio,
        "moved_bytes": moves.moved_bytes,
        **certified.as_json(),
    }
