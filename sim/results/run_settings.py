"""RunSettings: what a run was told, and what the same machine would cost told otherwise."""

from dataclasses import dataclass

import numpy as np

from vsim.sim.machine.machine import Machine
from vsim.sim.machine.precision import Precision
from vsim.sim.model.model import Model
from vsim.sim.model.parallel import check_peer, server_links
from vsim.sim.profiles.rules import ServerRules, server_rules
from vsim.sim.profiles.server_cost import server_cost
from vsim.sim.results.known_prefixes import known_ids
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.faults import InputError
from vsim.traces.prefix_chain import dense_codes
from vsim.traces.requests import Requests

_MOST_TOKENS = 1 << 20  # of whole prompts in a step, where nothing limits them


@dataclass(frozen=True, slots=True)
class RunSettings:
    """A run's settings, for judging which change of them could help.

    Args:
        scenario: what was run.
        machine: what it ran on.
        model: what was served.
        cost: what a step cost there.
        requests: the trace; None for recorded attention.
    """

    scenario: Scenario
    machine: Machine
    model: Model
    cost: StepCost
    requests: Requests | None = None

    @property
    def has_prefixes(self) -> bool:
        """Whether the trace says which prompts share a prefix."""
        return self.requests is not None and self.requests.prefix_ids.size > 0

    @property
    def reusable_tokens(self) -> int:
        """Prompt tokens that were in an earlier prompt, or in the turn before: no cache hits more.

        An id stands for its whole prefix, so those of a prompt that are known come first in it.
        """
        if self.requests is None or not self.has_prefixes:
            return 0
        requests, ids = self.requests, self.requests.prefix_ids
        codes, distinct = dense_codes(ids)
        known = known_ids(requests.prefix_offsets, codes, distinct)
        tokens = known * requests.block_tokens
        before = requests.prompt_tokens + requests.output_tokens
        turn = np.where(requests.parent >= 0, before[np.maximum(requests.parent, 0)], 0)
        return int(np.minimum(np.maximum(tokens, turn), requests.prompt_tokens).sum())

    @property
    def caching(self) -> bool:
        """Whether finished prompts' pages were kept."""
        engine = self.scenario.engine
        return self.has_prefixes and engine.prefix_caching and engine.batching != "static"

    @property
    def recorded(self) -> bool:
        """Whether this is a run of recorded attention."""
        return self.scenario.workload.attention is not None

    @property
    def hides_launches(self) -> bool:
        """Whether a step is launched while another computes, and only the rest is waited for."""
        return not self.recorded and self.rules(self.cost.gpus).pipelined

    def rules(self, gpus: int) -> ServerRules:
        """The engine's rules on so many GPUs."""
        return server_rules(self.scenario.engine, self.model, gpus, self.scenario.parallel.pipeline)

    @property
    def most_tokens(self) -> int:
        """Tokens of a step at most, as far as the settings say."""
        engine = self.scenario.engine
        whole = engine.batching == "static" or not engine.chunked_prefill
        return max(engine.token_budget, _MOST_TOKENS if whole else 1)

    def cost_with(
        self,
        *,
        tensor: int | None = None,
        weights: Precision | None = None,
        kv: Precision | None = None,
    ) -> StepCost | None:
        """What a step would cost with other settings; None where they are not possible."""
        scenario = self.scenario
        if tensor is not None and scenario.parallel.expert > 1:
            return None  # experts are dealt over all of a layer's GPUs: both would change
        parallel, precision = scenario.parallel, scenario.precision
        told = scenario.model_copy(
            update={
                "parallel": parallel.model_copy(update={"tensor": tensor or parallel.tensor}),
                "precision": precision.model_copy(
                    update={"weights": weights or precision.weights, "kv": kv or precision.kv}
                ),
            }
        )
        try:
            cost = server_cost(told, self.machine, self.model)
            check_peer(self.machine, cost.gpus, tuple(tier.tier for tier in scenario.tiers))
        except InputError:
            return None
        if parallel.data * cost.gpus > self.machine.gpu.count:
            return None
        given = scenario.tiers[0].capacity
        return None if given is not None and given > cost.kv_capacity_bytes else cost

    @property
    def hbm_bytes(self) -> int:
        """HBM for KV."""
        given = self.scenario.tiers[0].capacity
        return self.cost.kv_capacity_bytes if given is None else given

    def hbm_growth(self, cost: StepCost) -> float:
        """How many times as many tokens HBM would have room for at another cost."""
        given = self.scenario.tiers[0].capacity
        room = cost.kv_capacity_bytes if given is None else given
        new, old = (each.kv_bytes_per_token for each in (cost, self.cost))
        if not old:  # states alone
            new, old = cost.state_bytes_per_request, self.cost.state_bytes_per_request
        return (room / new) / (self.hbm_bytes / old)

    def attend_bytes_per_s(self, tier: str) -> float:
        """How fast a step reads pages that lie in a lower tier."""
        links = server_links(self.machine, self.cost.gpus)
        rate = self.machine.tier(tier).read.value
        for hop in self.machine.find_path(tier, self.machine.hbm.name) or ():
            link = links[hop.link]
            rate = min(rate, link.bytes_per_s if hop.forward else link.reverse_bytes_per_s)
        return rate
