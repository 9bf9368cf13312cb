"""The Arrow schemas that every trace, simulated or recorded, and every table is written in.

A list column holds one list a row. Field metadata says each column's `unit` and `doc`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa

from vsim.traces.limits import MOST_NS, MOST_TOKENS

SCHEMA_VERSION: Final = 1
READABLE_VERSIONS: Final = (1,)

OPERATION_KINDS: Final = (
    "reserve",  # VMM calls
    "create",
    "map",
    "set_access",
    "unmap",
    "release",
    "copy",  # a transfer between two tiers
    "attend",  # attention over pages where they are
    "compute",  # dense parts of a step
    "evict",  # a copy is dropped; moves no bytes
    "wait",
)
KERNELS: Final = (
    "products",
    "decode_attention",
    "prefill_attention",
    "experts",
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "expert_dispatch",
    "expert_combine",
    "decode_latents",
    "prefill_latents",
    "latent_products",
)
GPU_CASE_CLASSES: Final = (
    "attention",
    "mixed tiers",
    "copies",
    "mapping",
    "sparse decode",
    "decode loops",
    "replays",
)
PROBES: Final = (
    "read",  # a kernel that only reads
    "write",  # a kernel that only writes
    "latency",  # one thread that follows pointers
    "copy",  # a transfer, alone, in batches or both ways at once
    "beside",  # a transfer and attention at once
    "paging",  # pages one after another, alone and beside a step's products
    "vmm",  # a virtual-memory call
    "clearing",  # of memory that was released
    "launch",  # an empty kernel, a graph, an event
    "decode_attention",
    "prefill_attention",
    "ragged_attention",  # decodes of short and long contexts side by side
    "mixed_attention",  # decodes whose pages lie in two tiers
    "products",
    "experts",
    "all_reduce",  # a sum over GPUs
    "power",
    "clock",
)
SAMPLE_UNITS: Final = ("us", "W", "MHz")
ALLOCATION_OPS: Final = (
    "malloc",
    "free_request",  # a block is given up, while a stream may still use it; its free comes later
    "free",
    "realloc",
    "memcpy",  # from one allocation to another
)
ALLOCATION_CALLS: Final = (
    "cudaMalloc",  # and the driver's cuMemAlloc, pitched or not
    "cudaMallocAsync",  # ordered on a stream, from the driver's pools
    "cudaMallocManaged",
    "cudaMallocHost",  # pinned host memory: no part of the device's
    "vmm",  # cuMemCreate and cuMemMap: physical chunks under addresses
    "torch",  # a tensor's block, which PyTorch's caching allocator cuts from its own segments
)
"""Who gave the memory. Rows of `torch` are a program's requests; beside them, the other calls of
the same recording are what the caching allocator took from the driver to serve them."""
ALLOCATION_RESULTS: Final = ("ok", "out_of_memory", "failed")
MOST_ALLOCATION_BYTES: Final = 2**48
"""Of one allocation: 256 TiB, the address space of a GPU."""

TIME_CODES_PER_OCTAVE: Final = 64
"""Kernel times are kept on a log scale, so that one step is 1.1 %."""
MOST_TIME_CODE: Final = 47 * TIME_CODES_PER_OCTAVE  # 2^47 ns, more than a day

_DICTIONARY: Final = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a schema.

    Args:
        name: the column's name.
        type: its Arrow type.
        unit: `ns`, `bytes`, `tokens`, `1` for a count or an index, `id`, `name`, `flag`.
        doc: one line that says what a value is.
        nullable: whether a value may be null.
        minimum: the least value allowed, of each element for a list.
        maximum: the greatest value allowed, as `minimum`; None for what the type holds.
        words: the only words allowed, empty for any.
        optional: whether a file may leave the column out.
    """

    name: str
    type: pa.DataType
    unit: str
    doc: str
    nullable: bool = False
    minimum: int | None = None
    maximum: int | None = None
    words: tuple[str, ...] = ()
    optional: bool = False

    def field(self) -> "pa.Field[pa.DataType]":
        """Make the Arrow field, with unit and doc as metadata."""
        metadata = {"unit": self.unit, "doc": self.doc}
        return pa.field(self.name, self.type, self.nullable, metadata)


REQUESTS: Final = (
    Column("id", pa.int64(), "id", "identity of the request, unique in the file", minimum=0),
    Column("arrival_ns", pa.int64(), "ns", "arrival since the trace's start, never falls",
           minimum=0, maximum=MOST_NS),
    Column("prompt_tokens", pa.int64(), "tokens", "length of the whole prompt", minimum=1,
           maximum=MOST_TOKENS),
    Column("output_tokens", pa.int64(), "tokens", "tokens generated", minimum=1,
           maximum=MOST_TOKENS),
    Column("session", pa.int64(), "id", "the conversation it belongs to", True, 0),
    Column("parent", pa.int64(), "id", "id of the request this one continues; an earlier row",
           True, 0),
    Column("think_ns", pa.int64(), "ns", "from the parent's last token to this arrival", True, 0,
           MOST_NS),
    Column("tenant", _DICTIONARY, "name", "who sent it", True),
    Column("priority", pa.int32(), "1", "lower is more urgent; 0 is the default"),
    Column("prefix_blocks", pa.list_(pa.int64()), "id",
           "ids of the prompt's blocks, each standing for its whole prefix; "
           "the last may stand for a partial block", minimum=0),
)  # fmt: skip

ATTENTION: Final = (
    Column("step", pa.int64(), "1", "decode step, from 0; rows are ordered by step", minimum=0),
    Column("request", pa.int64(), "id", "the request that attends", minimum=0),
    Column("layer", pa.int32(), "1", "layer, from 0", minimum=0),
    Column("kv_head", pa.int32(), "1", "KV head, from 0; -1 stands for all", minimum=-1),
    Column("pages", pa.list_(pa.int32()), "1", "pages read, by position in the context",
           minimum=0),
    Column("mass", pa.list_(pa.float16()), "1",
           "attention mass of each page; uint8 is on the log scale that vsim.mass_scale names",
           optional=True),
)  # fmt: skip

ALLOCATIONS: Final = (
    Column("time_ns", pa.int64(), "ns", "time since the recording's start, never falls",
           minimum=0, maximum=MOST_NS),
    Column("thread", pa.int64(), "id", "the calling thread", minimum=0),
    Column("stream", pa.int64(), "id", "the stream it is ordered on; 0 is the default stream",
           minimum=0),
    Column("op", _DICTIONARY, "name", "what was called", words=ALLOCATION_OPS),
    Column("handle", pa.int64(), "id",
           "the allocation, of its own in the file even where an address comes again; of a memcpy, "
           "the target. One that no malloc made was there before the recording", minimum=0),
    Column("bytes", pa.int64(), "bytes",
           "size as it was asked for, or copied; of a free, the allocation's, 0 where unknown",
           minimum=0, maximum=MOST_ALLOCATION_BYTES),
    Column("other_handle", pa.int64(), "id",
           "of a realloc, the allocation it replaced; of a memcpy, the source", True, 0),
    Column("device", pa.int32(), "1", "the GPU, from 0; left out, all are of one", minimum=0,
           optional=True),
    Column("call", _DICTIONARY, "name", "who gave the memory; left out, cudaMalloc",
           words=ALLOCATION_CALLS, optional=True),
    Column("result", _DICTIONARY, "name",
           "how the call ended; what failed changed nothing. Left out, ok",
           words=ALLOCATION_RESULTS, optional=True),
    Column("address", pa.int64(), "1", "where it lay, as the program saw it", True, 0,
           optional=True),
    Column("pool", pa.int64(), "id",
           "of PyTorch's caching allocator the private pool, as the capture of a graph has one; 0, "
           "or left out, the common pools", minimum=0, optional=True),
)  # fmt: skip
"""Allocations and frees in the order in which they took effect, of one process."""

ALLOCATOR_SERIES: Final = (
    Column("trace_row", pa.int64(), "1", "the trace's row that it is after, rises from row to row",
           minimum=0),
    Column("time_ns", pa.int64(), "ns", "time since the recording's start, never falls",
           minimum=0, maximum=MOST_NS),
    Column("live_bytes", pa.int64(), "bytes", "what the program holds, as it asked for it",
           minimum=0),
    Column("allocated_bytes", pa.int64(), "bytes", "the same as the allocator rounds it",
           minimum=0),
    Column("reserved_bytes", pa.int64(), "bytes", "what the allocator has taken", minimum=0),
)  # fmt: skip
"""What one model of an allocator held after each call of a trace."""

OPERATIONS: Final = (
    Column("id", pa.int64(), "id", "identity of the operation, rises from row to row", minimum=0),
    Column("step", pa.int64(), "1", "the step it served; null outside of any", True, 0),
    Column("kind", _DICTIONARY, "name", "what was done", words=OPERATION_KINDS),
    Column("source_tier", _DICTIONARY, "name", "the tier read; null where none is", True),
    Column("target_tier", _DICTIONARY, "name", "the tier written; null where none is", True),
    Column("pages", pa.list_(pa.int64()), "id", "pages concerned", minimum=0),
    Column("bytes", pa.int64(), "bytes", "bytes moved, mapped or read", minimum=0),
    Column("stream", pa.int32(), "id", "operations of one stream run in order", minimum=0),
    Column("depends_on", pa.list_(pa.int64()), "id", "earlier operations that it waits for",
           minimum=0),
    Column("submit_ns", pa.int64(), "ns", "when it was submitted", minimum=0),
    Column("start_ns", pa.int64(), "ns", "when it started, not before submit_ns", minimum=0),
    Column("end_ns", pa.int64(), "ns", "when it ended, not before start_ns", minimum=0),
    Column("predicted", pa.bool_(), "flag", "true from a simulation, false if measured"),
    Column("rows", pa.list_(pa.int64()), "1",
           "of a compute, the requests of the step's batch, by their row in the trace", minimum=0,
           optional=True),
    Column("new_tokens", pa.list_(pa.int64()), "tokens", "that each of `rows` computes", minimum=1,
           optional=True),
    Column("context_tokens", pa.list_(pa.int64()), "tokens",
           "that each of `rows` has after the step", minimum=1, optional=True),
    Column("samples", pa.list_(pa.int64()), "flag",
           "1 for each of `rows` that the step gives an output token, else 0", minimum=0,
           maximum=1, optional=True),
    Column("row_pages", pa.list_(pa.int64()), "1",
           "of an attend, how many of `pages` are each request's, in the batch's order", minimum=0,
           optional=True),
)  # fmt: skip
BATCH_COLUMNS: Final = ("rows", "new_tokens", "context_tokens", "samples", "row_pages")
"""The columns of `operations` that hold the batches of steps: all of them or none."""

SERVER_RUNS: Final = (
    Column("repeat", pa.int16(), "1", "which repeat, from 0", minimum=0),
    Column("id", pa.int64(), "id", "the request, unique in its repeat", minimum=0),
    Column("arrival_ns", pa.int64(), "ns",
           "when it was due, since the start; after a parent: its last token plus think_ns",
           True, 0, MOST_NS),
    Column("sent_ns", pa.int64(), "ns", "when the client handed it to vLLM's front end", True),
    Column("queued_ns", pa.int64(), "ns", "when the engine's process took it in", True, 0, MOST_NS),
    Column("scheduled_ns", pa.int64(), "ns", "when a step first held it", True, 0, MOST_NS),
    Column("engine_first_ns", pa.int64(), "ns", "its first token in the engine's process", True, 0,
           MOST_NS),
    Column("first_token_ns", pa.int64(), "ns", "its first token at the client", True, 0, MOST_NS),
    Column("engine_last_ns", pa.int64(), "ns", "its last token in the engine's process", True, 0,
           MOST_NS),
    Column("last_token_ns", pa.int64(), "ns", "its last token at the client", True, 0, MOST_NS),
    Column("prompt_tokens", pa.int64(), "tokens", "length of the whole prompt", minimum=1,
           maximum=MOST_TOKENS),
    Column("output_tokens", pa.int64(), "tokens", "tokens generated", minimum=1,
           maximum=MOST_TOKENS),
    Column("gpu_hit_tokens", pa.int64(), "tokens",
           "prompt tokens found in the GPU's cache when first admitted", True, 0),
    Column("host_hit_tokens", pa.int64(), "tokens",
           "prompt tokens loaded from host memory when first admitted", True, 0),
    Column("preemptions", pa.int32(), "1", "how often it was preempted", True, 0),
    Column("session", pa.int64(), "id", "the conversation it belongs to", True, 0),
    Column("parent", pa.int64(), "id", "id of the request that this one continues", True, 0),
    Column("think_ns", pa.int64(), "ns", "from the parent's last token to this arrival", True, 0,
           MOST_NS),
    Column("prefix_blocks", pa.list_(pa.int64()), "id",
           "ids of the prompt's full blocks, each standing for its whole prefix; a parent's answer "
           "is part of its child's prompt", minimum=0),
)  # fmt: skip

SERVER_STEPS: Final = (
    Column("end_ns", pa.int64(), "ns", "when the engine's process had its tokens, or, of a step "
           "without tokens, when the front end heard of it; since the start", minimum=0),
    Column("has_tokens", pa.bool_(), "flag", "whether it gave tokens"),
    Column("running", pa.int32(), "1", "running requests after it", minimum=0),
    Column("waiting", pa.int32(), "1", "requests in the waiting queue after it", minimum=0),
    Column("skipped", pa.int32(), "1", "requests that wait for a load or a store after it",
           minimum=0),
    Column("kv_used", pa.float32(), "1", "share of the KV blocks in use by requests after it"),
    Column("finished_prompt_tokens", pa.int32(), "tokens",
           "lengths of the prompts whose first token it gave", minimum=0),
    Column("generated_tokens", pa.int32(), "tokens", "tokens that it gave", minimum=0),
    Column("preempted", pa.int32(), "1", "preemptions reported with it", minimum=0),
)  # fmt: skip


KERNEL_TABLES: Final = (
    Column("kernel", _DICTIONARY, "name", "what was timed", words=KERNELS),
    Column("precision", _DICTIONARY, "name", "of the weights; of attention, of the KV"),
    Column("variant", _DICTIONARY, "name",
           "attention over all or a window; how tokens spread over experts; how it was sent"),
    Column("shape", pa.list_(pa.int64()), "1",
           "what stays the same along the curve, in the order that the kernel's file says",
           minimum=0),
    Column("first", pa.list_(pa.int64()), "1", "points of the first axis, rising", minimum=0),
    Column("second", pa.list_(pa.int64()), "1",
           "points of the second axis, rising; a single 0 where there is none", minimum=0),
    Column("time_code", pa.list_(pa.int16()), "1",
           "a code c for each pair of points, the first axis outermost: 2^(c / 64) ns; "
           "-1 where nothing was measured", minimum=-1),
)  # fmt: skip
"""Measured times of kernels, one curve a row: a shape, and its times over one axis or two."""

GPU_CASES: Final = (
    Column("name", pa.string(), "name", "what the case is called, unique in the file"),
    Column("class", _DICTIONARY, "name", "what its error is told with", words=GPU_CASE_CLASSES),
    Column("case", pa.string(), "1", "what was done, as JSON (`vsim.sim.fidelity.gpu.cases`)"),
    Column("repeats_ns", pa.list_(pa.int64()), "ns", "what it took, repeat by repeat", minimum=1,
           maximum=MOST_NS),
)  # fmt: skip
"""Work that was measured on a GPU, to be held against what is predicted for it."""
GPU_SAMPLES: Final = (
    Column("probe", _DICTIONARY, "name", "what was measured", words=PROBES),
    Column("variant", _DICTIONARY, "name", "of what: a place, a direction, a call"),
    Column("sizes", pa.string(), "name",
           "the point: names and whole numbers, as a JSON object with sorted keys"),
    Column("bytes", pa.int64(), "bytes", "what one of it moves at least; 0 where it moves none",
           minimum=0),
    Column("unit", _DICTIONARY, "name", "of the samples", words=SAMPLE_UNITS),
    Column("samples", pa.list_(pa.float64()), "1", "as they came, of one call each"),
)  # fmt: skip
"""Samples of micro-benchmarks on a GPU, one point a row."""

LATENCIES: Final = tuple(
    f"{metric}_{statistic}"
    for metric in ("ttft", "tpot", "itl", "e2e")
    for statistic in ("mean", "p50", "p90", "p95", "p99")
)
"""Latencies and their statistics, as objectives name them."""
SIZE_RUNS: Final = (
    Column("configuration", pa.int32(), "1", "which configuration, from 0", minimum=0),
    Column("changes", _DICTIONARY, "name", "what of the scenario was varied, as --over writes it"),
    Column("rate_scale", pa.float64(), "1", "the load: how many times faster requests arrive"),
    Column("offered_per_s", pa.float64(), "1/s", "requests, or sessions, that come a second", True),
    Column("met", pa.bool_(), "flag", "whether every promise was kept"),
    Column("best", pa.bool_(), "flag", "whether it is the configuration's highest load so"),
    Column("requests", pa.int64(), "1", "requests that were counted", minimum=0),
    Column("rejected", pa.int64(), "1", "of them, those that could never fit", minimum=0),
    Column("good", pa.int64(), "1", "of them, those that kept every limit", minimum=0),
    Column("good_per_s", pa.float64(), "1/s", "the same a second"),
    *(
        Column(f"{name}_ns", pa.int64(), "ns", f"{name}; null where it is infinite", True, 0)
        for name in LATENCIES
    ),
    Column("prompt_tokens", pa.int64(), "tokens", "of completed requests", minimum=0),
    Column("output_tokens", pa.int64(), "tokens", "of completed requests", minimum=0),
    Column("simulated_ns", pa.int64(), "ns", "from the start to the last event", minimum=0),
    Column("hit_ratio", pa.float64(), "1", "share of prompt tokens found cached"),
    Column("usd_per_hour", pa.float64(), "USD/h", "what the server costs"),
    Column("usd_per_million_output", pa.float64(), "USD", "what a million output tokens cost; null "
           "without one", True),
    Column("bound_by", _DICTIONARY, "name", "what the run was bound by"),
)  # fmt: skip
"""Runs of a search for the highest load, one a row."""

SCHEMAS: Final[Mapping[str, tuple[Column, ...]]] = MappingProxyType(
    {
        "requests": REQUESTS,
        "attention": ATTENTION,
        "allocations": ALLOCATIONS,
        "allocator_series": ALLOCATOR_SERIES,
        "operations": OPERATIONS,
        "server_runs": SERVER_RUNS,
        "server_steps": SERVER_STEPS,
        "kernel_tables": KERNEL_TABLES,
        "gpu_cases": GPU_CASES,
        "gpu_samples": GPU_SAMPLES,
        "size_runs": SIZE_RUNS,
    }
)


def schema_of(kind: str, optional: Collection[str] = ()) -> pa.Schema:
    """Make the Arrow schema of one kind, with those of its optional columns that are named."""
    columns = (c for c in SCHEMAS[kind] if not c.optional or c.name in optional)
    return pa.schema([column.field() for column in columns])


def metadata_text(schema: pa.Schema) -> dict[str, str]:
    """Return a schema's metadata as text, whatever its bytes."""
    found = schema.metadata or {}
    return {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in found.items()}


def is_score(name: str) -> bool:
    """Say whether an attention column is a further score, by which a selection can be redone."""
    return name.startswith("score_")


def fits(found: Any, wanted: Any) -> bool:
    """Say whether a column of type `found` can be read as `wanted` without loss.

    Words may be plain strings, and the elements of a list may be declared never null.
    """
    if pa.types.is_dictionary(wanted):
        if pa.types.is_dictionary(found):
            found = found.value_type
        return pa.types.is_string(found) or pa.types.is_large_string(found)
    if pa.types.is_list(wanted):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return is_list and bool(found.value_type == wanted.value_type)
    return bool(found == wanted)


def fits_scores(found: Any) -> bool:
    """Say whether a column can hold one score a page: lists of float16, float32 or uint8."""
    if not (pa.types.is_list(found) or pa.types.is_large_list(found)):
        return False
    return found.value_type in (pa.float16(), pa.float32(), pa.uint8())
