"""Case: a scenario with the machine, costs and trace that its settings are judged against."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsim.sim.inputs.model_faults import Place
from vsim.sim.machine.machine import Machine
from vsim.sim.scenario.scenario import EngineSettings, Scenario, TierSettings
from vsim.sim.timing.kv_pages import KvPages
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.requests import Requests

Found = Iterator[tuple[Place, str]]
"""Places of fields, and what is wrong with each and to be written instead."""


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario with all that its settings are judged against.

    Args:
        scenario: the settings.
        machine: the machine it names.
        cost: what a step costs there; says how much HBM is left for KV.
        requests: the trace it sees.
        folder: where a user's own policy is sought first.
        seeded: whether the seed draws anything: a workload, or what a trace leaves open.
        keeps_tables: whether the run's tables go anywhere.
        host_times: whether the times of the engine's host are known, so that launches take some.
    """

    scenario: Scenario
    machine: Machine
    cost: StepCost
    requests: Requests
    folder: Path = Path()
    seeded: bool = True
    keeps_tables: bool = True
    host_times: bool = True

    @property
    def engine(self) -> EngineSettings:
        """The server's settings."""
        return self.scenario.engine

    @property
    def lockstep(self) -> bool:
        """Whether replicas share the model's experts, so that their steps go in lockstep."""
        return self.cost.measured is not None and self.cost.measured.joint is not None

    @property
    def has_prefixes(self) -> bool:
        """Whether the trace says which prompts share a prefix."""
        return self.requests.block_tokens > 0 and self.requests.prefix_ids.size > 0

    @property
    def caching(self) -> bool:
        """Whether finished prompts' pages are kept, and so cached pages exist at all."""
        static = self.engine.batching == "static"
        return self.engine.prefix_caching and self.has_prefixes and not static

    @property
    def why_no_caching(self) -> str:
        """The reason there are no cached pages."""
        if self.engine.batching == "static":
            return "static batching keeps no cached pages"
        if not self.engine.prefix_caching:
            return "prefix_caching is off"
        return "the trace has no prefix ids, so nothing is cached"

    @property
    def lower(self) -> tuple[TierSettings, ...]:
        """The tiers under HBM."""
        return self.scenario.tiers[1:]

    @property
    def promotes(self) -> bool:
        """Whether cached pages can ever be promoted."""
        return self.caching and any(tier.access == "promote" for tier in self.lower)

    @property
    def swaps(self) -> bool:
        """Whether preempted requests' pages move to a lower tier and back."""
        static = self.engine.batching == "static"
        return self.engine.preemption == "swap" and not static and len(self.lower) > 0

    @property
    def pages(self) -> KvPages:
        """The pages of each KV group."""
        return self.cost.pages(self.engine.page_or_block_tokens)

    @property
    def page_bytes(self) -> int:
        """HBM that a page of all groups takes over the server's GPUs; 0 where none keeps tokens."""
        return self.pages.page_bytes

    def request_bytes(self, tokens: int) -> int:
        """HBM that a request of so many tokens takes at once at most."""
        step = self.engine.token_budget if self.engine.chunked_prefill else tokens
        return self.pages.most_bytes(tokens, min(step, tokens), self.caching)

    def written(self, *fields: str) -> Iterator[str]:
        """Those of the engine's fields that were written down."""
        return (field for field in fields if field in self.engine.model_fields_set)

    @property
    def priorities(self) -> int:
        """How many different priorities the requests have."""
        return int(np.unique(self.requests.priority).size)

    @property
    def evicts_by_priority(self) -> bool:
        """Whether some tier's eviction looks at the requests' priorities."""
        return self.caching and any(tier.eviction == "priority" for tier in self.scenario.tiers)
