"""The engine's state: plain arrays, viewed inside the kernels as records with named fields.

Kernels see the arrays as the `World` below. All times are ns, all counts pages unless the name says
otherwise, -1 stands for none. A tier's room (`capacity`, `free`, `idle`, `leaving`, `low`, `high`,
`peak`) is counted in units, of which a page takes one where there is one KV group, see `KvPages`.
"""

from typing import Any

import numpy as np

from vsim.sim.engine.pointers import Table
from vsim.sim.eviction.state import GHOST, HEAP, LINK, POLICY, WORTH

NEVER = 1 << 62
OUT_OF_TIME = -1  # in `failed`, where 1 and more is a tier whose policy gave no page
LAST_NS = 1 << 60  # 36 years; no run goes on longer, so that sums of times have a limit

# What the drivers are told by `advance` (a time otherwise).
IDLE = -1
RELEASED = -2
LOG_FULL = -3
FAILED = -4  # a user's policy gave no page to evict, or the time ran out

# Slot flags.
INBOUND = 1  # its contents are still on their way
LEAVING = 2  # being written to another tier; free when that ends, unless somebody comes back to it
PREFETCHED = 4  # promoted ahead of any request, not used since
DEFERRED = 8  # leaving, as soon as the tier below has a slot for it

# Request states.
UNBORN, WAITING, LOADING, RUNNING, DONE, REJECTED = 0, 1, 2, 3, 4, 5

# Why somebody waits for a page.
CAUSES = ("promotion", "in_flight", "swap_in", "write_back", "capacity")
PROMOTION, IN_FLIGHT, SWAP_IN, WRITE_BACK, CAPACITY = range(5)

FCFS, PRIORITY, FAIR = 0, 1, 2
COMPUTE_BOUND, HBM_BOUND, LOWER_BOUND = 0, 1, 2

# What must be free before a waiting request comes in.
FIRST_CHUNK, WHOLE_PROMPT, WHOLE_SEQUENCE, ESTIMATED = 0, 1, 2, 3

# Kinds of KV groups, in the order of `KvGroup.kind`.
GROUP_KINDS = ("full", "window", "chunk", "state", "fixed")
FULL, WINDOW, CHUNK, STATE, FIXED = range(5)

# Kinds of logged operations.
OPERATIONS = ("copy", "compute", "attend")
COPY, COMPUTE, ATTEND = range(3)


def _record(*parts: str) -> "np.dtype[Any]":
    """Fields by their scalar: `i8`, names, and so on; each at a multiple of its own size."""
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return np.dtype([(n, scalar) for scalar, names in pairs for n in names.split()], align=True)


CONTROL = _record(
    "i8",
    # what the scenario says
    "requests tiers paths resources slots flow_room ready_room step_room gap_room op_room "
    "op_page_room op_page_reserve keys page_tokens page_bytes rows row_pages max_running "
    "groups grouped group_keys longest page_units low_page_units "
    "max_loading prefetch_requests "
    "times_products times_arithmetic times_head times_small times_communication times_decode "
    "times_prefill times_near_decode times_near_prefill times_sustained times_heats "
    "times_graph_launch times_eager_launch "
    "times_chunk_products times_chunk_arithmetic times_chunk_small times_chunk_communication "
    "times_chunk_sustained times_chunk_heats "
    "prefill_first late clip_tokens most_new_tokens retract_steps ignore_eos "
    "pipelined delays holds_back prompt_only weighs_loads admission watermark_pages "
    "token_budget chunked caching static scheduler classes swap spill balanced mapped key_ratio "
    "part_tokens part_ratio window_tokens chunked_window log_transfers log_steps shared_route "
    "think "
    "address call_insert call_hit call_release call_remove call_victim call_make_room call_reclaim "
    "call_come_in call_plan_batches call_end_transfers "
    # where the run stands
    "decode_row decode_column plan_at joined launched owed planned emitted uniform step_open "
    "finishing hidden hidden_head hidden_tail full chunked_request prefilling seals "
    "now previous_end in_flight step_start step_fixed_end step_end running ready_head ready "
    "loading waiting free_rows blocked prefetch_idle out pending released "
    "refused refused_key refused_need refused_hbm next_row next_arrival waiting_heap active_heap "
    "next_flow flow_time flows done flow_serial last_account fail_cause idle_from "
    "idle_cause "
    "step_tokens step_prefill step_context step_sampled step_bound step_no step_slowest "
    "decodes decode_context decode_lower chunk_tokens chunk_pairs chunk_context chunk_lower "
    "near_decode_context near_chunk_pairs near_chunk_context batch_requests "
    "decode_lower_bytes chunk_lower_bytes "
    "copied_tokens vmm_maps vmm_unmaps joint_tokens "
    # logs
    "steps exceptions operations operation_pages "
    # counters
    "completed rejected fast_steps swapped recomputed swap_refused copy_on_write promoted "
    "prefetched prefetch_used states_kept states_skipped unstuck through_skipped "
    "recomputed_tokens flow_events stalls "
    "peak_running time_arithmetic time_launch time_communication time_compute time_weights time_kv "
    "time_small "
    "time_vmm time_idle_transfers time_idle_capacity "
    "reserved_high reserved_low used_high used_low held_tokens used_tokens budget_left "
    "lower_attends waits ranked stacked batch_prompt batch_step failed overflowed",
)

COST = _record(
    "f8",
    "launch_ns flops_token flops_sampled flops_pair flops_per_s "
    "prefill_context_ns beside_prefill prepare_ns drain_ns join_ns schedule_ns client_ns first_ns "
    "prompt_token_ns compute_token_ns sustained_attention sustained_after_ns cooling "
    "ratio_first ratio_least ratio_step "
    "weight_bytes expert_bytes experts experts_per_token micro_batches kv_read kv_write "
    "kv_written window_share window_pair_share state_bytes state_written "
    "exponent attend_weight hbm_weight map_ns unmap_ns "
    # the step under way
    "token_ratio offset_tokens "
    "compute_ns body_left body_time speed weight_share share_compute share_weights share_kv "
    "prefill_ns worked_ns worked_at "
    # what was looked up for as many tokens, and for as many samples, as the last step had
    "at_tokens at_sampled products_ns arithmetic_ns small_ns communication_ns graph_launch_ns "
    "sustained_ns heating_ns head_ns "
    # of servers in lockstep, what the step under way takes for the tokens of all of them
    "joint_experts_ns joint_arithmetic_ns joint_exchange_ns",
)

TIER = _record(
    "i8",
    "base capacity slots worthless fresh recycled cursor free idle leaving low high in_place "
    "through waits chosen lacking deferred deferred_units deferred_first deferred_last peak "
    "page_ns_high page_ns_low hit_tokens inserted "
    "evicted dropped next_tier wanted allocated attend_tokens attend_bytes bound_ns",
)
TIER_COST = _record(
    "f8", "read_bytes_per_s write_bytes_per_s waits hbm_waits step_bytes step_cap read written"
)

REQUEST = _record(
    "i8",
    "arrival admitted first last fault_wait faults wait_from load_from key_offset part_offset",
    "i4",
    "prompt output keys named fresh_key parts tokens generated computed furthest row held scan "
    "hit_tokens preemptions group next priority",
    "i1",
    "state wait_cause load_cause swapped",
)
MOST_TOKENS = (1 << 31) - 1  # of a request, prompt and output together

TURN = _record("i8", "think", "i4", "child sibling", "i1", "waits")

GROUP = _record("i8", "head tail waiting service running in_waiting in_active")
URGENT = _record("i8", "service group")

KV = _record(
    "i8",
    "kind width segment most bytes hbm_bytes hbm_units low_units "
    "pages peak_pages requests_pages requests_peak decoding_peak",
)

RANK = _record("i4", "priority depth")

PATH = _record("i8", "exists active latency first last pages moved")
PATH_RATE = _record("f8", "service rate target bytes weight")

OUT = _record("i8", "path first pages bytes")
FLOW = _record("i8", "path first pages bytes submit done serial step")

STEP = _record("i8", "start end prefill decode context requests common bound body")
OPERATION = _record(
    "i8", "serial step kind source target bytes submit start end pages_from pages batch"
)


class World:
    """All state of one server, as kernels see it: arrays by name, behind one pointer.

    Only kernels are handed a world; `State` owns the arrays.
    """

    c: Any  # CONTROL, one record
    x: Any  # COST, one record
    t: Any  # TIER, a record a tier, HBM first
    tc: Any  # TIER_COST, a record a tier
    r: Any  # REQUEST, a record a request
    turn: Any  # TURN, a record a request; only where turns wait for those before them
    g: Any  # GROUP, a record a scheduling class
    urgent: Any  # classes * 2: heaps of URGENT, see `class_heaps`
    kv: Any  # KV, a record a KV group
    span: Any  # 2 * rows * groups: a row's first entry of each group, and what follows its last
    group_of: Any  # slots: whose page it is; only where there are several groups
    marks: Any  # bits of the classes with waiting requests, see `class_marks`
    holds: Any  # slots, tier after tier: the key of the page in it, or -1
    flags: Any  # slots: INBOUND and the like
    source: Any  # slots: from where its page is coming
    chain: Any  # slots: the next of the same transfer, or of those that wait for a slot below
    rank: Any  # slots: RANK; only where a policy asks what a page is worth
    ref: Any  # slots: who uses the slot, transfers included
    free: Any  # slots: each tier's stack of slots that were used and are free, in its own range
    open: Any  # or the set of those, see `free_slots`
    at: Any  # tiers * keys: the slot that holds a key in a tier
    ids: Any  # the requests' page keys, one after another (coarse, see key_ratio)
    parts: Any  # the requests' prefix parts finer than a page
    part_page: Any  # parts: last page key seen to hold a part
    table: Any  # rows * row_pages: page tables; of several groups, one behind the other
    low: Any  # rows * tiers * groups: pages of a row that lie in each tier under HBM
    run: Any  # max_running: running requests, in order of admission
    share: Any  # max_running: tokens each computes in this step
    emit: Any  # max_running: requests whose token the last step computed and nobody has seen yet
    owed: Any  # 2 * rows: (row, pages) that are free once the step under way is seen
    load: Any  # max_loading: requests whose pages are on their way
    ready: Any  # a ring: requests whose pages have come
    rows: Any  # stack of free page-table rows
    release: Any  # (request, arrival) of those that finished parents release
    out: Any  # OUT: copies planned and not yet submitted
    p: Any  # PATH, one for each pair of tiers
    pr: Any  # PATH_RATE
    use: Any  # (paths + tiers) * resources: seconds of a resource a byte costs
    times: Any  # what kernels take: curves and grids, see `looking_up`
    scratch: Any  # resources * 2 + paths + tiers
    f: Any  # FLOW: transfers under way
    done: Any  # FLOW: transfers that have arrived and are not yet delivered
    target: Any  # the service of its path at which a flow's bytes are through
    step: Any  # STEP: the steps logged since the log was last taken
    gap: Any  # gaps between output tokens that are not a step's own length, likewise
    op: Any  # OPERATION: the operations logged, likewise
    op_pages: Any  # of each logged operation its batch, then its pages, see `committing`
    hit: Any  # requests * tiers: prompt tokens found in each tier; only with caching
    wait: Any  # causes * 2: faults and ns waited by cause; then the upper part of each ns
    links: Any  # the rest is the eviction policies', see `vsim.sim.eviction.state.Evictor`
    mark: Any
    key: Any
    policy: Any
    ghosts: Any
    worth: Any
    heap: Any


_I1, _I4, _I8, _F8 = np.dtype(np.int8), np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.float64)

FIELDS: tuple[tuple[str, "np.dtype[Any]"], ...] = (
    ("c", CONTROL), ("x", COST), ("t", TIER), ("tc", TIER_COST), ("r", REQUEST), ("turn", TURN),
    ("g", GROUP), ("urgent", URGENT), ("kv", KV), ("span", _I4), ("group_of", _I1), ("marks", _I8),
    ("holds", _I4), ("flags", _I1), ("source", _I4), ("chain", _I4), ("rank", RANK), ("ref", _I4),
    ("free", _I4), ("open", _I8), ("at", _I4), ("ids", _I4), ("parts", _I4),
    ("part_page", _I4), ("table", _I4), ("low", _I4), ("run", _I4), ("share", _I8), ("emit", _I4),
    ("owed", _I4), ("load", _I4), ("ready", _I4), ("rows", _I4), ("release", _I8), ("out", OUT),
    ("p", PATH), ("pr", PATH_RATE), ("use", _F8), ("times", _F8), ("scratch", _F8), ("f", FLOW),
    ("done", FLOW), ("target", _F8), ("step", STEP), ("gap", _I8), ("op", OPERATION),
    ("op_pages", _I8), ("hit", _I4), ("wait", _I8),
    ("links", LINK), ("mark", _I4), ("key", _I4), ("policy", POLICY), ("ghosts", GHOST),
    ("worth", WORTH), ("heap", HEAP),
)  # fmt: skip
"""The arrays of a world and what they hold, in the order of the table of addresses."""

TABLE = Table("engine", FIELDS)
