"""EngineProfile: an engine's rules, defaults and host times, each number with its source."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vsim.sim.inputs.words import Text, Word
from vsim.sim.inputs.yaml_input import Bytes, DurationNs
from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.quantity import Quantity

Admission = Literal["first_chunk", "whole_prompt", "whole_sequence", "estimate"]
Count = Annotated[int, Field(ge=1, le=1 << 30)]
Share = Annotated[float, Field(ge=0, lt=1)]


class _Part(BaseModel):
    """A part of a profile: no unknown keys, no changes after it was built, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SizesUpTo(_Part):
    """Sizes at equal distances: behind those listed before, up to one of them."""

    last: Count
    """The largest; the list ends where the limit of sizes comes first."""
    apart: Count
    """Distance between them, and between the first and the last of those before."""


class Budget(_Part):
    """What an engine computes in a step by default, on GPUs of some size."""

    least_hbm: Bytes = 0
    """For GPUs with at least so much memory; the first line that fits counts."""
    except_gpus: tuple[Text, ...] = ()
    """Not for GPUs in whose name one of these words is."""
    token_budget: Quantity[Count]
    """Tokens of a step at most."""
    max_running_requests: Quantity[Count]
    """Requests in the batch at most."""
    largest_graph: Quantity[Count] | None = None
    """Largest batch that is captured as a graph, where that depends on the GPU."""
    largest_graph_tensor_4: Quantity[Count] | None = None
    """The same with 4 and more GPUs that share each layer; left out: no other."""


class Graphs(_Part):
    """Batch sizes for which the kernels of a step are captured as one graph."""

    largest: Quantity[Count]
    """No batch of more tokens is, unless the budget says another limit."""
    largest_per_request: Quantity[Count]
    """Nor one of more tokens than so many times max_running_requests."""
    sizes: tuple[SizesUpTo, ...] | None = None
    """Sizes that are captured; left out: vLLM's."""
    prompt_sizes: tuple[SizesUpTo, ...] | None = None
    """Sizes to which steps of prompts alone are padded, up to the token budget; left out: as all
    others."""


class Memory(_Part):
    """What an engine leaves of a GPU's memory for weights and KV: a share of it, less a sum."""

    utilisation: Quantity[Annotated[float, Field(gt=0, le=1)]]
    """Share of it that the engine takes."""
    overhead: Quantity[Bytes]
    """Of that, what activations, graphs and the runtime take on each GPU."""
    overhead_experts: Quantity[Bytes]
    """The same for models with experts."""
    of_rest: bool = False
    """Whether the share is taken of what the weights and the overhead leave, and not of all."""


class StaticFraction(_Part):
    """The same by SGLang's formula (`handle_gpu_memory_settings`): what it reserves is summed up.

    What the sum leaves of a GPU's memory is a fraction of it, rounded to three digits, which the
    engine then takes of the memory that is free before it loads the weights.
    """

    fixed: Quantity[Bytes]
    """Constant part."""
    per_token: Quantity[Bytes]
    """For each token of a step of prompts."""
    least_tokens: Quantity[Count]
    """Counted as at least so many."""
    per_gpu: Quantity[Bytes]
    """For each GPU of the server, on each."""
    per_graph_request: Quantity[Bytes]
    """For each request of the largest captured batch."""
    per_prompt_graph: Quantity[Bytes]
    """For each captured size of a step of prompts."""
    latent_prompt_graphs: Quantity[Bytes]
    """For all of those, where attention is latent."""
    least: Quantity[Bytes]
    """At least so much in all, on GPUs of more than `least_above`."""
    least_above: Bytes
    """See `least`."""
    context: Quantity[Bytes]
    """What is not free before the weights are loaded."""


class PrefillFirst(_Part):
    """An engine that computes prompts before it decodes, and admits by an estimate."""

    init_new_token_ratio: Quantity[Annotated[float, Field(gt=0, le=1)]]
    """Share of what running requests may still generate that is kept for them at first."""
    min_new_token_ratio_factor: Quantity[Annotated[float, Field(gt=0, le=1)]]
    """And at last, relative to the first."""
    new_token_ratio_decay_steps: Quantity[Count]
    """Decode steps from the first to the last."""
    clip_max_new_tokens: Quantity[Count]
    """What a request may generate counts as so many tokens at most."""
    retract_decode_steps: Quantity[Count]
    """Tokens more for each request in the ratio after a retraction; and pages for as many are
    freed then."""


class Host(_Part):
    """Time that the engine's own code takes. With no pipeline, none of it is counted here."""

    graph_launch: Quantity[DurationNs]
    """Schedule a batch that only decodes, launch it as one graph, and take in the last tokens."""
    piece_launch: Quantity[DurationNs]
    """The same for a batch with parts of prompts, of a size with graphs for all but attention."""
    eager_launch: Quantity[DurationNs]
    """The same for a batch without graphs, beside what each of its layers takes."""
    eager_layer: Quantity[DurationNs]
    """And for each layer of a model whose FFNs are ordinary ones."""
    eager_expert_layer: Quantity[DurationNs]
    """And for each layer that has experts."""
    join: Quantity[DurationNs] | None = None
    """For each request beside the first that comes in, also again, with a step; left out: none."""
    workers_launch: Quantity[bool]
    """Whether other processes launch a step where it runs on several GPUs. The engine then sees the
    last step's tokens while they do."""
    workers_piece_launch: Quantity[DurationNs] | None = None
    """`piece_launch` where they do; left out: the same."""
    workers_schedule: Quantity[DurationNs] | None = None
    """What of a launch is then the engine's own. The rest follows what they launched before; left
    out: they are never behind."""
    prepare: Quantity[DurationNs]
    """Before the first kernel of such a batch is launched."""
    drain: Quantity[DurationNs]
    """After the last kernel is launched, until it can have ended."""
    arrival: Quantity[DurationNs]
    """Between a client's request and its arrival in the scheduler."""
    prompt_token: Quantity[DurationNs]
    """And for each token of its prompt."""
    delivery: Quantity[DurationNs]
    """Between a step's end and the client's sight of its token."""
    first_delivery: Quantity[DurationNs] | None = None
    """The same of a request's first token; left out: as of the others."""


class EngineProfile(_Part):
    """A serving engine: what it admits, what it computes at once, what its host takes."""

    name: Word
    """The name that scenarios use."""
    engine: Text
    """The engine and its version."""
    description: Text
    """What is modelled, and what is not."""
    kernels: Stack | None = None
    """Whose kernels a machine's tables are sought for; left out: the first that it has."""
    admission: Quantity[Admission]
    """What must find room before a waiting request comes in."""
    watermark: Quantity[Share]
    """Share of the pages that stay free when a request comes in beside others."""
    null_pages: Quantity[Annotated[int, Field(ge=0, le=16)]]
    """Pages that the engine keeps for itself."""
    budgets: tuple[Budget, ...] = Field(min_length=1)
    """What it computes in a step by default."""
    async_scheduling: Quantity[bool]
    """Whether a step is scheduled and launched before the last one's tokens are looked at."""
    reclaim: Quantity[Share]
    """Share of pages below which idle ones are evicted ahead of need."""
    block_tokens: Quantity[Count] | None = None
    """Tokens of a block; left out: 16."""
    prefill_first: PrefillFirst | None = None
    """Steps of prompts alone, before those that decode; left out: steps hold both."""
    memory: Memory | StaticFraction | None = None
    """Room for weights and KV; left out: the share that the machine's file says."""
    equal_groups: Quantity[bool] | None = None
    """Whether layers that keep different KV are cut into groups of equal size, which share blocks
    of one size; left out: each kind has blocks of its own."""
    graphs: Graphs | None = None
    """Captured batch sizes; left out: none."""
    host: Host | None = None
    """Left out: a step's launch takes what the machine's file says."""
