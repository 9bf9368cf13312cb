"""Machine: GPUs, the tiers under their HBM and the links between them; each number has a source.

What an entry counts. `gpu` and the hbm tier describe **one** GPU. Every other tier, and every
link, describes the **whole machine**: the host link of a machine with four GPUs is the sum of its
four PCIe slots. A server that uses some of the GPUs gets its share of the links that end at HBM
(`vsim.sim.model.parallel.server_links`). A peer tier is the HBM of one GPU that the server leaves
free.
"""

from collections import deque
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from vsim.sim.inputs.model_faults import FieldsError, Place
from vsim.sim.inputs.words import Text, Word
from vsim.sim.machine.attend import Attend
from vsim.sim.machine.clearing import Clearing
from vsim.sim.machine.copies import CopyRow
from vsim.sim.machine.gpu import Gpu, GpuLink, Launch, Power
from vsim.sim.machine.kernel_file import KernelFile
from vsim.sim.machine.quantity import Part
from vsim.sim.machine.tier import Group, Link, Tier
from vsim.sim.machine.vmm import VmmRow
from vsim.traces.faults import suggestion


@dataclass(frozen=True, slots=True)
class Hop:
    """One link of a path: its index in `Machine.links`, and whether it is crossed forwards."""

    link: int
    forward: bool


class Machine(Part):
    """A described machine. Tiers are found by name, links by index."""

    name: Word
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
    clearing: Clearing | None = None
    """How released memory is cleared; without it, nothing waits for that."""
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
