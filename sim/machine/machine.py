"""Machine: GPUs, the tiers under their HBM and the links between them; each number has a source.

What an entry counts. `gpu` and the hbm tier describe **one** GPU. Every other tier, and every
link, describes the **whole machine**: the host link of a machine with four GPUs is the sum of its
four PCIe slots. A server that uses some of the GPUs gets its share of the links that end at HBM
(`vsim.sim.model.parallel.server_links`). A peer tier is the HBM of one GPU that the server leaves
free.
"""

from collections import deque
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vsim.sim.inputs.model_faults import FieldsError, Place, show
from vsim.sim.inputs.words import Text, Word
from vsim.sim.inputs.yaml_input import Bandwidth, Bytes, DurationNs, Flops
from vsim.sim.machine.copies import CopyRow
from vsim.sim.machine.vmm import VmmRow
from vsim.traces.faults import suggestion

T = TypeVar("T")

Source = Literal["datasheet", "measurement", "assumption"]
Stack = Literal["vllm", "sglang", "trtllm", "vsim"]
TierKind = Literal["hbm", "peer", "lpddr", "host", "cxl", "nvme", "network"]
Precision = Literal["bf16", "fp8", "fp8_scaled", "int8", "int4", "mxfp4", "nvfp4"]
WeightPrecision = Literal["bf16", "fp8", "int8", "int4", "mxfp4", "nvfp4"]
Name = Word
Share = Annotated[float, Field(ge=0.001, le=1)]
Watts = Annotated[float, Field(gt=0, le=1e6)]


class _Part(BaseModel):
    """A part of a machine: no unknown keys, no changes after it was built, no NaN."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Quantity(_Part, Generic[T]):
    """A number with its source: `{value: 80GiB, source: datasheet, note: …}`."""

    # For each type of value, pydantic would look for the source of docstrings in all modules: half
    # a second of every command's start.
    model_config = ConfigDict(use_attribute_docstrings=False)

    value: T = Field(description="The number, in the unit of its field.")
    source: Source = Field(description="Where it is from.")
    note: Text = Field(
        "",
        description="A measurement's date, device and driver; the reason of an assumption; "
        "a datasheet's name.",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_source(cls, data: Any) -> Any:
        if isinstance(data, dict | Quantity):
            return data
        written = data if isinstance(data, str) else show(data)
        raise ValueError(
            f"{show(data)} has no source; write it as {{value: {written}, source: datasheet}}"
            " (or measurement or assumption, with a note)"
        )

    @model_validator(mode="after")
    def _has_note(self) -> Self:
        if self.source != "datasheet" and not self.note.strip():
            wanted = "when and on what" if self.source == "measurement" else "why"
            raise ValueError(
                f"source {self.source} has no note; write `note: …` that says {wanted}"
            )
        return self


class Rates(_Part):
    """Dense arithmetic rates of one GPU's tensor cores, without structured sparsity."""

    bf16: Quantity[Flops]
    """bf16 products summed in fp32."""
    fp8: Quantity[Flops] | None = None
    """fp8; left out where the GPU has none, and fp8 weights then compute in bf16."""
    int8: Quantity[Flops] | None = None
    """int8; left out where the GPU has none, and int8 weights then compute in bf16."""
    fp4: Quantity[Flops] | None = None
    """fp4 on both sides; left out where the GPU has none, and nvfp4 weights compute in bf16."""

    def for_weights(self, precision: Precision) -> Quantity[Flops]:
        """The rate that products with such weights run at.

        int4 and mxfp4 are unpacked to bf16 first, since what they are multiplied by is bf16.
        """
        if precision in ("fp8", "fp8_scaled") and self.fp8 is not None:
            return self.fp8
        if precision == "nvfp4" and self.fp4 is not None:
            return self.fp4
        if precision == "int8" and self.int8 is not None:
            return self.int8
        return self.bf16


class Sustained(_Part):
    """What a GPU under its power limit can keep up, where that is less than what kernels reach."""

    flops_efficiency: Quantity[Share]
    """Share of the peak rate that products keep up."""
    attention_slowdown: Quantity[Annotated[float, Field(ge=1, le=10)]]
    """How many times as long a prefill's attention then takes."""
    after: Quantity[DurationNs]
    """Arithmetic without a pause before the clock falls. A pause of that length undoes it."""


class Gpu(_Part):
    """One GPU, and how many of them the machine has."""

    name: Name
    """The product's name."""
    count: int = Field(1, ge=1, le=1024)
    """GPUs in the machine."""
    flops: Rates
    """Peak arithmetic rates of one GPU."""
    flops_efficiency: Quantity[Share]
    """Share of the peak rate that a step's products reach."""
    hbm_efficiency: Quantity[Share]
    """Share of the hbm tier's read and write bandwidth that a step's kernels reach."""
    sustained: Sustained | None = None
    """Left out: kernels keep up what they reach."""
    memory_utilisation: Quantity[Share]
    """Share of HBM for weights and KV; activations, graphs and the runtime take the rest."""


class Tier(_Part):
    """A memory. The hbm tier is one GPU's; every other tier is the whole machine's."""

    name: Name
    """The name that links and scenarios use."""
    kind: TierKind
    """What it is; VMM calls cost by kind."""
    capacity: Quantity[Bytes]
    """Its size."""
    read: Quantity[Bandwidth]
    """How fast it is read."""
    write: Quantity[Bandwidth]
    """How fast it is written."""
    latency: Quantity[DurationNs]
    """Time of the first byte of an access, in the memory itself."""
    attend_in_place: bool
    """Whether a kernel can read pages where they are, without a promotion."""
    page_granularity: Quantity[Bytes]
    """A mapped page is a whole number of these; a copied page may have any size."""


class Group(_Part):
    """A resource that several links share, such as a PCIe root or a memory controller."""

    name: Name
    """The name that links use."""
    bandwidth: Quantity[Bandwidth]
    """What all transfers of its links, in both directions together, can have at once."""


class Link(_Part):
    """A channel between two tiers, for the whole machine."""

    source: Name
    """The tier that `bandwidth` leads away from."""
    target: Name
    """The tier that `bandwidth` leads to."""
    bandwidth: Quantity[Bandwidth]
    """From source to target."""
    reverse_bandwidth: Quantity[Bandwidth]
    """From target to source."""
    latency: Quantity[DurationNs]
    """Time before a transfer's first byte arrives, in either direction."""
    group: Name | None = None
    """The group whose bandwidth this link shares with others."""

    @property
    def name(self) -> str:
        """The link's name in results: `host-hbm`."""
        return f"{self.source}-{self.target}"


class GpuLink(_Part):
    """What tensor and pipeline parallelism talk over."""

    bandwidth: Quantity[Bandwidth]
    """Of one GPU, in one direction."""
    latency: Quantity[DurationNs]
    """Of one message between two GPUs."""


class InPlace(_Part):
    """Attention that reads a kind of tier where it is, beside HBM and others."""

    kind: Literal["peer", "lpddr", "host", "cxl", "nvme", "network"]
    """Of the tier."""
    read: Quantity[Bandwidth] | None = None
    """What one GPU's attention reads there, if it reads nothing else: links may give copies less,
    or more. Left out: what the memory and the links to it give."""
    waits: Quantity[Annotated[float, Field(ge=0, le=1)]]
    """Share of the time of all other parts by which this part of an attend gets longer."""
    hbm_waits: Quantity[Annotated[float, Field(ge=0, le=1)]]
    """Share of the time of this part by which HBM's gets longer."""


class Attend(_Part):
    """How an attend over several tiers adds up (p-norm), and its weight against copies."""

    exponent: Quantity[Annotated[float, Field(ge=1, le=1000)] | None]
    """p of T = (Σ (bytes/bandwidth)^p)^(1/p); null for p → ∞, the slowest tier alone."""
    in_place: tuple[InPlace, ...] = Field(default=(), max_length=7)
    """How fast parts are read, and how much longer they get beside others; left out: not at all."""
    beside_prefill: Quantity[Annotated[float, Field(ge=1, le=10)]] | None = None
    """How many times as long the attention of decodes takes in a step that also computes parts of
    prompts; left out: as long."""
    copy_weight: Quantity[Annotated[float, Field(ge=1e-3, le=1e3)]]
    """Share that an attend's flow takes of a busy link or memory, a copy counting as 1."""
    hbm_weight: Quantity[Annotated[float, Field(ge=1e-3, le=1e3)]] | None = None
    """The same of its flow from HBM, which has far more requests under way than any copy; left out:
    as `copy_weight`."""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        kinds = [each.kind for each in self.in_place]
        faults: list[tuple[Place, str]] = [
            (("in_place", index, "kind"), f"'{kind}' has a row already; keep one of them")
            for index, kind in enumerate(kinds)
            if kinds.index(kind) != index
        ]
        if faults:
            raise FieldsError(faults)
        return self

    def beside(self, kind: TierKind) -> InPlace | None:
        """How a kind of tier is read beside others; None where nothing is known of it."""
        return next((each for each in self.in_place if each.kind == kind), None)


class Launch(_Part):
    """What a step costs before any byte is moved."""

    step_overhead: Quantity[DurationNs]
    """Launching a step's kernels and sampling, as far as the GPU waits for it."""
    kernel: Quantity[DurationNs] | None = None
    """One kernel from the host, of many behind each other. No run reads it yet: it is for replay on
    a GPU."""
    graph: Quantity[DurationNs] | None = None
    """The call that launches a graph of one kernel. No run reads it yet: as `kernel`."""
    graph_kernel: Quantity[DurationNs] | None = None
    """A kernel of a graph that has nothing to do. No run reads it yet: as `kernel`."""
    event: Quantity[DurationNs] | None = None
    """The call that records an event. No run reads it yet: as `kernel`."""


class Power(_Part):
    """Power of one GPU. No run reads it yet: it is for energy."""

    idle_w: Quantity[Watts]
    """With a context and no work."""
    attention_w: Quantity[Watts] | None = None
    """While decodes attend over HBM."""
    products_w: Quantity[Watts] | None = None
    """While large matrix products run."""
    max_w: Quantity[Watts]
    """Sustained limit."""


class KernelFile(_Part):
    """Measured times of kernels under one serving stack, which a step's time is added up from."""

    stack: Stack
    """Whose kernels were timed."""
    file: Name
    """An Arrow file that `vsim calibrate` wrote; a relative path starts at this file's folder."""
    source: Source
    """Where the times are from."""
    note: Text = ""
    """When and on what they were measured."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One link of a path: its index in `Machine.links`, and whether it is crossed forwards."""

    link: int
    forward: bool


class Machine(_Part):
    """A described machine. Tiers are found by name, links by index."""

    name: Name
    """The catalogue's name, or your own."""
    description: Text
    """One or two sentences: what it is, and what stands for what."""
    gpu: Gpu
    """The GPUs."""
    tiers: tuple[Tier, ...] = Field(min_length=1, max_length=32)
    """Memories; a scenario picks those it uses by name."""
    links: tuple[Link, ...] = Field(default=(), max_length=256)
    """Channels between tiers; every tier has a path to hbm."""
    groups: tuple[Group, ...] = Field(default=(), max_length=256)
    """Resources that links share."""
    gpu_link: GpuLink | None = None
    """Between the GPUs; a machine with one GPU has none."""
    vmm: tuple[VmmRow, ...] = Field(default=(), max_length=1000)
    """What VMM calls cost; without it, pages of this machine can't be mapped."""
    copies: tuple[CopyRow, ...] = Field(default=(), max_length=100)
    """What copies of pages cost, by route."""
    attend: Attend
    """Attending over several tiers."""
    launch: Launch
    """Fixed costs of a step."""
    kernels: tuple[KernelFile, ...] = Field(default=(), max_length=4)
    """Measured times of kernels, one file a serving stack; without them, constants are taken."""
    power: Power
    """Energy."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = [*self._tier_faults(), *self._link_faults(), *self._gpu_faults()]
        if not faults:
            hbm = self.hbm.name
            faults = [
                (("tiers", index, "name"), f"no links lead from '{tier.name}' to '{hbm}'; add one")
                for index, tier in enumerate(self.tiers)
                if self.find_path(tier.name, hbm) is None
            ]
        if faults:
            raise FieldsError(faults)
        return self

    def _tier_faults(self) -> list[tuple[Place, str]]:
        faults: list[tuple[Place, str]] = []
        seen: set[str] = set()
        for index, tier in enumerate(self.tiers):
            if tier.name in seen:
                message = f"'{tier.name}' names an earlier tier too; give each its own name"
                faults.append((("tiers", index, "name"), message))
            seen.add(tier.name)
            if tier.kind == "peer" and self.gpu.count == 1:
                message = "a peer needs a second GPU; write gpu.count: 2 or leave this tier out"
                faults.append((("tiers", index, "kind"), message))
        found = [index for index, tier in enumerate(self.tiers) if tier.kind == "hbm"]
        if not found:
            faults.append((("tiers",), "none is of kind hbm; add the GPU's own memory"))
        for index in found[1:]:
            message = "there is a tier of kind hbm already; one is the GPU's own memory"
            faults.append((("tiers", index, "kind"), message))
        return faults

    def _link_faults(self) -> list[tuple[Place, str]]:
        faults: list[tuple[Place, str]] = []
        tiers = [tier.name for tier in self.tiers]
        groups = [group.name for group in self.groups]
        pairs: set[frozenset[str]] = set()
        for index, link in enumerate(self.links):
            for end, tier in (("source", link.source), ("target", link.target)):
                if tier not in tiers:
                    message = f"there is no tier '{tier}'{suggestion(tier, tiers)}"
                    faults.append((("links", index, end), message))
            pair = frozenset((link.source, link.target))
            if len(pair) == 1:
                message = f"'{link.target}' is the link's source too; name another tier"
                faults.append((("links", index, "target"), message))
            elif pair in pairs:
                message = f"'{link.source}' and '{link.target}' have a link already; merge the two"
                faults.append((("links", index, "target"), message))
            pairs.add(pair)
            if link.group is not None and link.group not in groups:
                message = f"there is no group '{link.group}'{suggestion(link.group, groups)}"
                faults.append((("links", index, "group"), message))
        for index, name in enumerate(groups):
            if groups.index(name) != index:
                message = f"'{name}' names an earlier group too; give each its own name"
                faults.append((("groups", index, "name"), message))
            lost = any(link.group not in (*groups, None) for link in self.links)
            if not lost and not any(link.group == name for link in self.links):
                message = f"no link is in group '{name}', so it does nothing; remove it"
                faults.append((("groups", index, "name"), message))
        return faults

    def _gpu_faults(self) -> list[tuple[Place, str]]:
        faults: list[tuple[Place, str]] = []
        if self.gpu.count > 1 and self.gpu_link is None:
            message = f"{self.gpu.count} GPUs have no gpu_link; add its bandwidth and latency"
            faults.append((("gpu", "count"), message))
        if self.gpu.count == 1 and self.gpu_link is not None:
            message = "a single GPU has no link to others; remove gpu_link or write gpu.count: 2"
            faults.append((("gpu_link",), message))
        if self.power.max_w.value < self.power.idle_w.value:
            message = f"is below idle_w, {self.power.idle_w.value:g}; write the sustained limit"
            faults.append((("power", "max_w", "value"), message))
        stacks = [each.stack for each in self.kernels]
        for index, stack in enumerate(stacks):
            if stacks.index(stack) != index:
                message = f"'{stack}' has a file already; keep one of them"
                faults.append((("kernels", index, "stack"), message))
        keys = [(row.kind, row.chunk, row.chunks) for row in self.vmm]
        lacking: set[tuple[str, int]] = set()
        for index, key in enumerate(keys):
            if keys.index(key) != index:
                faults.append((("vmm", index), "repeats an earlier row; keep one of them"))
            if key[2] > 1 and (*key[:2], 1) not in keys and key[:2] not in lacking:
                lacking.add(key[:2])
                message = f"has no row of chunks: 1 for the same chunk of {key[0]}; add it"
                faults.append((("vmm", index), message))
        routes = [(row.origin, row.target, row.way) for row in self.copies]
        faults += [
            (("copies", index), "repeats an earlier row; keep one of them")
            for index, route in enumerate(routes)
            if routes.index(route) != index
        ]
        return faults

    @property
    def hbm(self) -> Tier:
        """One GPU's own memory."""
        return next(tier for tier in self.tiers if tier.kind == "hbm")

    def tier(self, name: str) -> Tier:
        """Find a tier by name. Raises KeyError if there is none."""
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise KeyError(name)

    def find_path(self, source: str, target: str) -> tuple[Hop, ...] | None:
        """Find the path of fewest links between two tiers; of equals, the one written first."""
        paths: dict[str, tuple[Hop, ...]] = {source: ()}
        queue = deque([source])
        while queue:
            here = queue.popleft()
            if here == target:
                return paths[here]
            for index, link in enumerate(self.links):
                for start, end in ((link.source, link.target), (link.target, link.source)):
                    if start == here and end not in paths:
                        paths[end] = (*paths[here], Hop(index, forward=start == link.source))
                        queue.append(end)
        return None
