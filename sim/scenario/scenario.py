"""Scenario: everything that decides a run, as a YAML file or as Python values.

`load_scenario` reads a file; every class here can also be built by hand. A scenario that holds a
setting that cannot act is refused by `vsim.sim.scenario.applicability`, not here: that needs the
machine, the model and the trace.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from vsim.sim.inputs.field_descriptions import DescribedSchema
from vsim.sim.inputs.model_faults import FieldsError, explain
from vsim.sim.inputs.words import Text
from vsim.sim.inputs.yaml_input import Bytes, load_yaml
from vsim.sim.machine.precision import Precision, WeightPrecision
from vsim.sim.scenario.limits import (
    MOST_GPUS,
    MOST_RATE_SCALE,
    MOST_REQUESTS_AT_ONCE,
    MOST_TIERS,
    MOST_TOKEN_BUDGET,
    MOST_TRACES,
)
from vsim.sim.scenario.page_selection import Name, PageSelection, Sparsity, several
from vsim.traces.faults import refuse
from vsim.traces.synth import SynthSpec

DEFAULT_PLACEMENT = "ewma-reads-balanced"
"""An online policy that needs no attention mass."""


class _Section(BaseModel):
    """A part of a scenario: no unknown keys, no changes after it was built, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _read_synth(value: object) -> object:
    """Read a drawn workload as `vsim trace synth` does: lengths may be text, pairs or a mapping.

    A file is otherwise read strictly, which leaves no room for these three forms.
    """
    if not isinstance(value, dict):
        return value
    try:
        return SynthSpec.model_validate(value)
    except ValidationError as error:
        found = explain(error, value, SynthSpec)
        raise FieldsError((place, message) for place, message, _ in found) from None


_ONE_NAME = {"type": "string", "minLength": 1}
Names = Annotated[
    tuple[Name, ...],
    BeforeValidator(several),
    Field(min_length=1, max_length=MOST_TRACES),
    WithJsonSchema({"anyOf": [_ONE_NAME, {"type": "array", "items": _ONE_NAME, "minItems": 1}]}),
]


class OneSelection(PageSelection):
    """Which of the pages that a trace of attention recorded a step reads."""

    sparsity: Sparsity | None = None
    """Share of the pages that `top-share` leaves out. Left out: 0.8."""


class AlikeExperts(_Section):
    """Tokens that choose the same experts, since their prompts begin alike."""

    share: float = Field(gt=0, le=1)
    """Share of its experts that a token has in common with another whose prompt begins as its
    own."""
    openings: int = Field(ge=1, lt=1 << 20)
    """Ways in which prompts begin, all equally often."""


class Workload(_Section):
    """The requests that arrive: a trace, a drawn workload, or recorded attention."""

    trace: Name | None = None
    """A trace file: Arrow of kind requests, or any format that `vsim trace import` reads.
    A relative path starts at the scenario file's folder."""
    synth: Annotated[SynthSpec | None, BeforeValidator(_read_synth)] = None
    """A workload drawn from the scenario's seed."""
    attention: Names | None = None
    """One or several traces of attention (Arrow). Each is one request that arrives at 0; after
    their prompts they decode side by side, and each layer and KV head reads the pages that
    `selection` takes from the trace, wherever `placement` has them. A relative path starts at the
    scenario file's folder. Exactly one of `trace`, `synth` and `attention` is given."""
    selection: OneSelection = OneSelection()
    """Which of the recorded pages a step reads. Only with `attention`."""
    steps: int | None = Field(default=None, ge=1, lt=1 << 31)
    """Only the first so many decode steps of `attention`. Left out: all."""
    rate_scale: float = Field(default=1.0, ge=1 / MOST_RATE_SCALE, le=MOST_RATE_SCALE)
    """Requests arrive this many times faster than the trace says."""
    requests: int | None = Field(default=None, ge=1, lt=1 << 31)
    """Only the first so many requests. Left out: all of them."""
    pacing: Literal["arrivals", "think_times"] = "arrivals"
    """`arrivals`: each request arrives at its time in the trace. `think_times`: a turn that
    continues another arrives its think time after that turn's last token."""

    alike_experts: AlikeExperts | None = None
    """How alike tokens choose experts; only with a model that has some. Left out: each chooses
    its own."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = ("trace", "synth", "attention")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"{' and '.join(given)} are given" if given else "none is given"
            raise ValueError(f"{found}; write exactly one of trace, synth and attention")
        return self


class Parallel(_Section):
    """How the model is spread over the machine's GPUs."""

    tensor: int = Field(default=1, ge=1, le=MOST_GPUS)
    """GPUs that share each layer."""
    pipeline: int = Field(default=1, ge=1, le=MOST_GPUS)
    """Groups of layers, each on its own GPUs."""
    data: int = Field(default=1, ge=1, le=MOST_GPUS)
    """Replicas of the server, each on its own GPUs and with its own scheduler and KV. Requests are
    dealt to them in turn. With vLLM's profiles those of a model with experts share these, and their
    steps go in lockstep."""
    expert: int = Field(default=1, ge=1, le=MOST_GPUS)
    """Groups of those that share each layer to which its experts are dealt as a whole; an expert is
    cut over the GPUs of its group. Of replicas in lockstep the GPUs of all share them: write 1, or
    tensor x data."""


class Precisions(_Section):
    """How many bits the numbers have."""

    weights: WeightPrecision | None = None
    """Precision of the weights. Left out: as the checkpoint declares, else bf16."""
    kv: Precision | None = None
    """Precision of the KV cache. Left out: as the checkpoint declares, else bf16."""


class EngineSettings(_Section):
    """The server: its engine, batching, blocks, scheduling, and how pages move."""

    profile: Name = "vllm"
    """Whose rules and host times: vllm (0.25), vllm-0.19, sglang, tensorrt-llm, or vsim, one step
    at a time. What is left out below has the engine's own default on this machine."""
    batching: Literal["continuous", "static"] = "continuous"
    """`continuous`: requests join and leave the batch at any step. `static`: a batch is padded to
    its longest prompt and runs until its last request is done."""
    max_running_requests: int = Field(default=256, ge=1, le=MOST_REQUESTS_AT_ONCE)
    """Requests in the batch at most. Left out: the engine's default."""
    token_budget: int = Field(default=2048, ge=1, le=MOST_TOKEN_BUDGET)
    """Tokens that one step computes at most, prefill and decode together; with profile: sglang, of
    prompts (its chunked_prefill_size). Left out: the engine's default."""
    admission: Literal["first_chunk", "whole_prompt", "whole_sequence", "estimate"] = "first_chunk"
    """What must find room before a waiting request comes in: its first chunk; all of its prompt (a
    check, no reservation); or all that it will ever hold, which is then kept for it, so that no
    request is preempted. `estimate` is SGLang's, and its only one: its prompt and all that it may
    generate, beside a share of what the running ones may. Left out: the engine's rule."""
    schedule_conservativeness: float = Field(default=1.0, gt=0, le=1e3)
    """SGLang's setting of that name: times the share of what running requests may still generate
    that is kept for them. Only with profile: sglang."""
    max_new_tokens: int | None = Field(default=None, ge=1, le=1 << 30)
    """Tokens that each request asks for at most, as a client of SGLang says; requests end where
    the trace says. Left out: what each one generates. Only with profile: sglang."""
    ignore_eos: bool = False
    """Whether requests say so, as benchmarks of SGLang do: all that they may generate is then kept
    for them. Only with profile: sglang."""
    cuda_graph_max_bs: int | None = Field(default=None, ge=1, le=MOST_REQUESTS_AT_ONCE)
    """SGLang's setting of that name: the largest batch that is captured as a graph and padded to
    the next captured size when it decodes. Left out: the engine's default on this machine. Only
    with profile: sglang."""
    watermark: float = Field(default=0.0, ge=0, lt=1)
    """Share of HBM's pages that stay free when a request comes in beside others. Left out: the
    engine's."""
    async_scheduling: bool = False
    """Schedule and launch a step before the last one's tokens are looked at. Left out: as the
    engine does."""
    host_slowdown: float = Field(default=1.0, ge=0.1, le=100)
    """How many times as long this server's host takes to launch a step as the one on which the
    profile's times were measured."""
    loading: Literal["cheaper", "always"] = "cheaper"
    """Whether what a tier below holds of a prompt is loaded. `cheaper`: only if all of it comes
    sooner, behind what is on its way already, than it would be computed; and a tier that no page
    could come from sooner gets none. `always`: as servers do. With offloading: engine it always
    is."""
    offloading: Literal["tiers", "engine"] = "tiers"
    """`tiers`: pages move to the tiers below and back as those say. `engine`: as vLLM's offloading
    connector does: to one tier with write: through go the blocks of prompts, not those generated;
    and blocks of preempted requests come back only with the step under way."""
    num_gpu_blocks: int | None = Field(default=None, ge=2, lt=1 << 40)
    """Blocks of KV that HBM has room for, as an engine's log says; tiers.0.capacity is then left
    out. Left out: what the weights leave."""
    chunked_prefill: bool = True
    """Spread a prompt's prefill over several steps when it exceeds the token budget."""
    block_tokens: int = Field(default=16, ge=1, le=1 << 20)
    """Tokens of a block: the unit of prefix matching. Left out: 16, and with profile: sglang 1, its
    page_size."""
    page_tokens: int | None = Field(default=None, ge=1, le=1 << 24)
    """Tokens of a page: the unit of placement, a whole number of blocks. Left out: one block."""
    prefix_caching: bool = True
    """Keep the blocks of finished prompts and reuse them for equal prefixes."""
    scheduler: Literal["fcfs", "priority", "fair"] = "fcfs"
    """Who is admitted next: `fcfs` by arrival; `priority` by the request's priority, the lowest
    number first; `fair` the tenant that was served the fewest tokens."""
    preemption: Literal["recompute", "swap"] = "recompute"
    """What happens to a preempted request's pages: dropped and computed again, or moved to the
    tier below and back."""
    max_loading_requests: int = Field(default=64, ge=1, le=MOST_REQUESTS_AT_ONCE)
    """Requests whose pages are on their way to HBM at once, at most."""
    prefetch_requests: int = Field(default=0, ge=0, le=MOST_REQUESTS_AT_ONCE)
    """Waiting requests whose pages are promoted ahead of their turn."""
    placement: Literal["hbm_first", "balanced"] = "hbm_first"
    """Where new pages are born: in HBM, or spread over HBM and the tiers attended in place in
    proportion to their bandwidth."""
    movement: Literal["paged", "mapped"] = "paged"
    """How a page changes tier. `paged`: copied into a slot of the other tier's pool. `mapped`:
    another chunk is put under the same address, which costs VMM calls; a page is then a whole
    number of the machine's chunks."""
    reclaim_low: float = Field(default=0.02, ge=0, lt=1)
    """Background reclaim starts when less than this share of a tier's pages is free."""
    reclaim_high: float = Field(default=0.04, ge=0, lt=1)
    """Background reclaim stops when this share of a tier's pages is free."""

    @property
    def page_or_block_tokens(self) -> int:
        """Tokens of a page, whether or not it was written down."""
        return self.block_tokens if self.page_tokens is None else self.page_tokens


class TierSettings(_Section):
    """One tier of the hierarchy."""

    tier: Name
    """The tier's name in the machine file."""
    capacity: Bytes | None = None
    """Bytes that KV pages may take here. Left out: all of the tier, in HBM what the weights
    leave."""
    eviction: Name = "lru"
    """Which page leaves first: lru, clock, lfu, fifo, 2q, arc, sieve, s3-fifo, priority, cost, or
    a class of your own as `package.module:Class`."""
    access: Literal["promote", "in_place"] = "promote"
    """`promote`: a page is copied to HBM before a step reads it. `in_place`: the kernel reads it
    where it is. Not for HBM."""
    write: Literal["back", "through"] = "back"
    """`back`: a page is copied here when it is evicted above. `through`: as soon as it is
    complete above. Not for HBM."""
    backlog: Literal["drop", "wait"] = "drop"
    """What becomes of a page evicted above while every page here is still in use or on its way:
    `drop`: it is lost, as where a server's eviction never waits; `wait`: it stays above until there
    is room, and whoever needs its place waits. Not for HBM."""


class OutputSettings(_Section):
    """What a run records besides its summary."""

    operations: Literal["none", "transfers", "all"] = "none"
    """Rows of operations.arrow: none, the transfers between tiers, or every operation."""


class Scenario(_Section):
    """A run, completely described: workload, machine, model, engine, tiers."""

    name: Name
    """A short name, used in titles."""
    description: Text = ""
    """What the scenario shows."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Seed of every draw. The same scenario and seed give the same bytes."""
    workload: Workload
    """The requests."""
    machine: Name
    """A machine of the catalogue (`h100`), or the path of a machine file; a relative path starts
    at the scenario file's folder."""
    model: Name
    """A model of the catalogue (`llama-3.1-8b`), or the path of a model file or of a Hugging Face
    `config.json`; a relative path starts at the scenario file's folder."""
    parallel: Parallel = Parallel()
    """How the model is spread over GPUs."""
    precision: Precisions = Precisions()
    """Precision of weights and KV cache."""
    engine: EngineSettings = EngineSettings()
    """The server."""
    tiers: tuple[TierSettings, ...] = Field(min_length=1, max_length=MOST_TIERS)
    """The memories, HBM first, then downwards."""
    placement: Name = DEFAULT_PLACEMENT
    """Which pages HBM holds in a run of recorded attention: a placement policy of `vsim bound` by
    name, such as static, lru-balanced, learned-prefetch or belady. Only with
    `workload.attention`."""
    output: OutputSettings = OutputSettings()
    """What is recorded."""

    def with_trace(self, path: str) -> "Scenario":
        """Return this scenario with its requests read from `path` instead of what it names."""
        return self._with_source(trace=path)

    def with_attention(self, path: str) -> "Scenario":
        """Return this scenario with the recorded attention of `path` instead of what it names."""
        return self._with_source(attention=(path,))

    def _with_source(self, **source: Any) -> "Scenario":
        written = self.workload.model_fields_set - {"trace", "synth", "attention"}
        kept = {key: getattr(self.workload, key) for key in written}
        workload = Workload(**(kept | source))
        return self.model_copy(update={"workload": workload})

    def read_with(self, overrides: Sequence[str]) -> "Scenario":
        """Return what a file says, whose seed serves any workload that the file is given.

        So a seed must draw something only where it was asked for on its own, by `seed=...`.
        """
        if not any(each.partition("=")[0].strip() == "seed" for each in overrides):
            self.model_fields_set.discard("seed")
        return self


def load_scenario(path: Path | str, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario file.

    Args:
        path: a YAML file.
        overrides: `key=value` with a dotted key, as `--set` takes them.

    Raises:
        InputError: with every fault and its position.
    """
    if isinstance(overrides, str):  # a sequence as well, of letters
        refuse("overrides", "are text; give a list of settings such as engine.token_budget=4096")
    return load_yaml(Path(path), Scenario, overrides).read_with(overrides)


def schema_text() -> str:
    """Return the JSON schema of scenario files, as editors read it."""
    schema = Scenario.model_json_schema(schema_generator=DescribedSchema)
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(title | schema, indent=2, ensure_ascii=False) + "\n"
