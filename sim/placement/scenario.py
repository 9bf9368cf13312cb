"""`PlacementScenario`: what `vsim bound scenario.yaml` compares."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from vsim.sim.inputs.yaml_input import Bytes, ComparedBandwidth, FieldsError
from vsim.sim.scenario.limits import MOST_SEARCH_S
from vsim.sim.scenario.page_selection import Name, PageSelection, Share, Sparsity, several
from vsim.sim.schedules.tier_stack import MOST_TIERS
from vsim.sim.schedules.two_tiers import Start
from vsim.traces.attention import BYTES_OF_ENTRY, BYTES_OF_PAGE
from vsim.traces.attention_generator import MOST_HEADS, MOST_TOKENS, GeneratorSpec
from vsim.traces.faults import Fault
from vsim.traces.machine_memory import memory_fault

DEFAULT_SPARSITY = 0.8
MOST_STEPS, MOST_REQUESTS = 2**24 - 1, 2**16
MOST_SEED = 2**62
"""Requests and restarts count up from a seed, and all of them fit 64 bits."""
MemoryBandwidth = ComparedBandwidth
"""From a byte a second to more than any memory has; times and their ratios stay numbers."""

Shares = Annotated[tuple[Share, ...], BeforeValidator(several), Field(min_length=1)]
Sparsities = Annotated[tuple[Sparsity, ...], BeforeValidator(several), Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(several), Field(min_length=1)]


class _Section(BaseModel):
    """A part of a scenario: no unknown keys, no changes after it was built, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GenerateSettings(_Section):
    """Attention drawn from heads that were fitted to the recordings."""

    prompt_tokens: int = Field(ge=1, le=MOST_TOKENS)
    """Tokens of each request's context before the first step."""
    steps: int = Field(ge=1, le=MOST_STEPS)
    """Tokens decoded."""
    requests: int = Field(default=1, ge=1, le=MOST_REQUESTS)
    """Requests in the batch, each with a seed of its own."""
    heads: int = Field(default=90, ge=1, le=MOST_HEADS)
    """KV heads over all layers."""
    kept: Share = 0.6
    """Share of a row's pages that is drawn; a selection can read no more."""
    variation: float = Field(default=1.0, ge=0, le=10)
    """How fast attention moves: 1 as recorded, 0 never, 2 twice as fast."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of the first request; the others follow."""

    def fault(self) -> Fault | None:
        """What speaks against drawing this and selecting from it, if anything does."""
        if self.prompt_tokens + self.steps > MOST_TOKENS:
            message = f"prompt_tokens and steps are more than {MOST_TOKENS} together; write less"
            return Fault("scenario", message, place="generate.prompt_tokens")
        pages = self.requests * self.heads * self.spec(0).pages
        entries = self.requests * self.spec(0).entries
        if pages > MOST_TOKENS:
            message = (
                f"asks for {pages:,} pages, which are numbered to {MOST_TOKENS:,}; ask for less"
            )
            return Fault("scenario", message, place="generate")
        needed = entries * BYTES_OF_ENTRY + pages * BYTES_OF_PAGE
        what = f"{pages:,} pages, {entries:,} of them listed in all steps,"
        return memory_fault("scenario", needed, what, "generate")

    def spec(self, request: int) -> GeneratorSpec:
        """What to draw for one of the requests."""
        return GeneratorSpec(
            prompt_tokens=self.prompt_tokens,
            steps=self.steps,
            heads=self.heads,
            seed=self.seed + request,
            kept=self.kept,
            variation=self.variation,
        )


class SelectionSettings(PageSelection):
    """Which of the recorded pages a step reads."""

    sparsity: Sparsities | None = None
    """Share of the pages that `top-share` leaves out, one or several."""


class TierSettings(_Section):
    """One memory of several, from HBM down."""

    tier: Name
    """Its name, such as `hbm`, `peer`, `lpddr`, `host`."""
    bandwidth: MemoryBandwidth
    """Bandwidth of the memory, or of the channel to it, each way."""
    share: Share | None = None
    """Share of all pages at the end of the decode that it holds. The last tier holds any number."""


TWO_TIER_FIELDS = ("hbm_bandwidth", "slow_bandwidth", "slow_tier", "hbm_share")
"""Settings of two tiers, which a list of tiers takes the place of."""


class MemorySettings(_Section):
    """The tiers: two, or as many as are listed."""

    tiers: (
        Annotated[tuple[TierSettings, ...], Field(min_length=2, max_length=MOST_TIERS)] | None
    ) = None
    """The tiers from HBM down, in place of the four settings of two tiers."""

    hbm_bandwidth: MemoryBandwidth = 5e12
    """Read bandwidth of HBM."""
    slow_bandwidth: MemoryBandwidth = 5e11
    """Bandwidth of the channel to the slow tier, each way."""
    slow_tier: Name = "host"
    """The slow tier's name in schedules."""
    hbm_share: Shares = (0.25,)
    """Share of all pages at the end of the decode that HBM holds, one or several."""
    weights: Bytes | None = None
    """Traffic of every step on HBM beside pages. Left out: none."""
    exclusive: bool = False
    """A page is in one tier only, so that promotions and demotions are paid. Otherwise the slow
    tier keeps a copy of every page."""
    duplex: bool = True
    """Demotions and writes to the slow tier have a direction of their own."""
    norm: float | None = Field(default=None, ge=1)
    """p of the step time (Σ tᵢᵖ)^(1/p). Left out: the slower tier alone decides (p = ∞)."""
    start: Start = "first-fill"
    """Where pages are before the first step: `first-fill`, `empty`, or `free` choice."""

    @property
    def stacked(self) -> bool:
        """Whether the policies over any number of tiers place the pages, with their own bound."""
        return self.tiers is not None or self.exclusive

    @model_validator(mode="after")
    def _listed_tiers(self) -> Self:
        if self.tiers is None:
            return self
        faults: list[tuple[tuple[str | int, ...], str]] = [
            ((name,), "stands beside memory.tiers, which says the same; leave one of them out")
            for name in TWO_TIER_FIELDS
            if name in self.model_fields_set
        ]
        *above, last = self.tiers
        names = [tier.tier for tier in self.tiers]
        for at, tier in enumerate(self.tiers):
            if tier.tier in names[:at]:
                message = f"{tier.tier!r} is the name of another tier, too; write a different one"
                faults.append((("tiers", at, "tier"), message))
        for at, tier in enumerate(above):
            if tier.share is None:
                message = "has no share; write which share of all pages it holds, like share: 0.25"
                faults.append((("tiers", at), message))
        if last.share is not None:
            message = "the last tier holds any number of pages; leave its share out"
            faults.append((("tiers", len(above), "share"), message))
        total = sum(tier.share or 0.0 for tier in above)
        if total > 1 + 1e-9:
            message = f"the shares above the last tier add up to {total:g}; write at most 1 in all"
            faults.append((("tiers",), message))
        if faults:
            raise FieldsError(faults)
        return self


class PlacementScenario(_Section):
    """Recorded attention, a selection, a memory and the policies to compare."""

    name: Name = "placement"
    """What it is called."""
    description: str = ""
    """What it shows."""
    attention: Names | None = None
    """Attention traces; several are decoded in one batch. A relative path starts at the scenario
    file's folder. Exactly one of `attention` and `generate` is given."""
    generate: GenerateSettings | None = None
    """Attention that is drawn instead."""
    selection: SelectionSettings = SelectionSettings(sparsity=(DEFAULT_SPARSITY,))
    """Which pages a step reads."""
    memory: MemorySettings = MemorySettings()
    """The tiers."""
    time_per: Literal["step", "layer"] = "step"
    """Add up times of steps, or of each layer of each step."""
    page_factor: int = Field(default=1, ge=1)
    """Merge so many neighbouring pages of a head into one; a step reads whole pages."""
    merge_heads: bool = False
    """Merge the pages of all KV heads of a layer."""
    steps: int | None = Field(default=None, ge=1)
    """Only the first so many steps. Left out: all."""
    policies: Names | None = None
    """The policies to run. Left out: all of them."""
    mip_seconds: float = Field(default=0.0, ge=0, le=MOST_SEARCH_S)
    """How long the LP rounding may go on to search for whole pages, in each case. 0: not at all."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of the policies that draw."""

    @property
    def cases(self) -> int:
        """How many cases are compared: every sparsity with every share of HBM."""
        shares = 1 if self.memory.tiers is not None else len(self.memory.hbm_share)
        return shares * len(self.selection.sparsity or (DEFAULT_SPARSITY,))

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if (self.attention is None) == (self.generate is None):
            found = "neither" if self.attention is None else "both"
            raise ValueError(f"{found} of attention and generate is given; write exactly one")
        return self
