"""Servers in lockstep: each with its own scheduler and KV, all with one step at a time.

The servers share a model's experts (`vsim.sim.timing.joint_curves`), as vLLM's replicas do
(`DPEngineCoreProc.run_busy_loop` of 0.25): they plan their steps apart, run them together, and the
step is over when the slowest is through. A server that has nothing to compute runs a dummy step of
one token; what arrives there meanwhile is planned when that is over. When nobody has anything to do
they stop at once; vLLM counts to 32 steps first, of which a request that comes then waits for one.

Plan and commit are the kernels that the other drivers call; the time that a server waits for the
others, and that of the exchange, is booked as communication. No tier lies under HBM, so nothing is
under way but the step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vsim.sim.engine.drivers import Progress, control_place, refuse_failed
from vsim.sim.engine.entry import enter_arrive_next, enter_begin_step, enter_commit, enter_plan
from vsim.sim.engine.layout import LAST_NS, NEVER, OUT_OF_TIME
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import finished
from vsim.sim.engine.state import State
from vsim.sim.model.model import expected_experts
from vsim.sim.timing.joint_curves import JointCurves, dealt_tokens
from vsim.sim.timing.step_cost import StepCost

_STEPS_A_REPORT = 512


@dataclass(frozen=True, slots=True)
class JointPart:
    """What servers in lockstep take together.

    Args:
        curves: over the tokens of all.
        sizes: of captured batches, ascending.
        experts: routed experts of a layer.
        experts_per_token: how many of them a token goes through.
        expert_bytes: one, of all layers, that a server reads: its part of it.
    """

    curves: JointCurves
    sizes: tuple[int, ...]
    experts: int
    experts_per_token: int
    expert_bytes: float

    @classmethod
    def of(cls, cost: StepCost, sizes: Sequence[int], servers: int) -> "JointPart | None":
        """That of so many servers of a cost; None where each is by itself."""
        joint = cost.curves.joint
        if joint is None:
            return None
        each = cost.expert_bytes / servers
        return cls(joint, tuple(sizes), cost.experts, cost.experts_per_token, each)

    def read_bytes(self, tokens: int) -> float:
        """Experts that a server reads in a step of so many tokens of all."""
        touched = expected_experts(self.experts, self.experts_per_token, tokens)
        return float(touched) * self.expert_bytes


def run_lockstep(
    states: Sequence[State], joint: JointPart, progress: Progress | None = None
) -> list[EngineResult]:
    """Run fresh states side by side to their end.

    Args:
        states: from `build_state`, without tiers under HBM; used up.
        joint: what their steps take together.
        progress: told (requests done, requests) of all now and then.
    """
    servers = [_Server(state) for state in states]
    end = _Run(servers, joint, progress).run()
    return [finished(state, end, 0) for state in states]


class _Server:
    """One of them. Stateful, as its arrays are."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.control = state.control_numbers()
        self.cost: Any = state.arrays["x"][0]
        self.cost["experts"] = 0.0  # what it reads of them is booked by the tokens of all

    def let_arrive(self, until: int) -> None:
        """Everybody arrives whose time has come."""
        while self.control[_NEXT_ARRIVAL] <= until:
            enter_arrive_next(self.control[_NEXT_ARRIVAL], self.state.address)

    def plans(self, now: int) -> bool:
        """Plan the next step; whether it computes anything."""
        self.control[_NOW] = now
        while (computes := enter_plan(now, self.state.address)) < 0:
            self.state.take_log()
        if self.control[_FAILED]:
            refuse_failed(self.state)
        return bool(computes)

    def wait_until(self, end: int) -> None:
        """The step under way is over only then."""
        late = end - self.control[_STEP_END]
        self.control[_STEP_END] = end
        self.control[_FIXED_END] += late
        self.control[_COMMUNICATION] += late
        self.cost["worked_at"] = float(end)

    def commit(self, now: int) -> None:
        """The step under way is over."""
        self.control[_NOW] = now
        self.state.take_log()
        enter_commit(now, self.state.address)


class _Run:
    """All of them together. Stateful: it keeps what was last looked up."""

    def __init__(
        self, servers: Sequence[_Server], joint: JointPart, progress: Progress | None
    ) -> None:
        self._servers = servers
        self._joint = joint
        self._progress = progress
        self._known: dict[int, tuple[float, float, float, float]] = {}

    def run(self) -> int:
        """Run until nothing is left to happen; returns the time of the last event."""
        now, end, steps = self._next_arrival(), 0, 0
        while now < NEVER:
            end = now
            for each in self._servers:
                each.let_arrive(now)
            computing = [each.plans(now) for each in self._servers]
            if not any(computing):
                now = self._next_arrival()
                continue
            now = self._carried_out(now, computing)
            steps += 1
            if steps % _STEPS_A_REPORT == 0:
                self._report()
        self._report()
        return end

    def _next_arrival(self) -> int:
        return min(each.control[_NEXT_ARRIVAL] for each in self._servers)

    def _carried_out(self, now: int, computing: Sequence[bool]) -> int:
        """Carry out the step that some of them planned; returns when it is over."""
        both = list(zip(self._servers, computing, strict=True))
        tokens = [each.control[_TOKENS] if computes else 0 for each, computes in both]
        padded, of_all = dealt_tokens(tokens, self._joint.sizes)
        experts_ns, arithmetic_ns, exchange_ns, read = self._together(of_all)
        busy = [each for each, computes in both if computes]
        ends = []
        for each in busy:
            each.control[_JOINT_TOKENS] = padded
            each.cost["joint_experts_ns"] = experts_ns
            each.cost["joint_arithmetic_ns"] = arithmetic_ns
            each.cost["joint_exchange_ns"] = exchange_ns
            ends.append(enter_begin_step(now, each.state.address))
        end = max(ends)
        if end > LAST_NS:
            self._servers[0].control[_FAILED] = OUT_OF_TIME
            refuse_failed(self._servers[0].state)
        for each in busy:
            each.wait_until(end)
        for each in self._servers:
            each.let_arrive(end)
            each.state.arrays["tc"][0]["read"] += read
        for each in busy:
            each.commit(end)
        return end

    def _together(self, tokens: int) -> tuple[float, float, float, float]:
        """What so many tokens of all take: experts, their arithmetic, the exchange; bytes read."""
        if tokens not in self._known:
            curves = self._joint.curves
            self._known[tokens] = (
                curves.experts.at(tokens),
                curves.arithmetic.at(tokens),
                curves.exchange.at(tokens),
                self._joint.read_bytes(tokens),
            )
        return self._known[tokens]

    def _report(self) -> None:
        if self._progress is not None:
            done = sum(each.control[_COMPLETED] for each in self._servers)
            self._progress(done, sum(len(each.state.requests) for each in self._servers))


_NEXT_ARRIVAL, _NOW, _FAILED = (
    control_place("next_arrival"),
    control_place("now"),
    control_place("failed"),
)
_STEP_END, _FIXED_END = control_place("step_end"), control_place("step_fixed_end")
_TOKENS, _JOINT_TOKENS = control_place("step_tokens"), control_place("joint_tokens")
_COMMUNICATION, _COMPLETED = control_place("time_communication"), control_place("completed")
