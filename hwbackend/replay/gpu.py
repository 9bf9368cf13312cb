"""`gpu_carriers`: a replay's backends on this computer's GPUs, and the memory that they share."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import Device, devices, granularity
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.board import Board
from vsim.hwbackend.measuring.facts import bus_id, read_facts
from vsim.hwbackend.memory.files import DiskError
from vsim.hwbackend.memory.slots import TierSlots, bytes_needed
from vsim.hwbackend.replay.clocked_backend import ClockedBackend
from vsim.hwbackend.replay.closing import closing
from vsim.hwbackend.replay.contents import Contents
from vsim.hwbackend.replay.cuda_carrier import CudaCarrier
from vsim.hwbackend.replay.disk import DiskRoom
from vsim.hwbackend.replay.needs import CHUNK_BYTES
from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.page_names import PageNames
from vsim.hwbackend.replay.places import (
    disk_tier,
    host_free_bytes,
    placed_tiers,
    refuse_too_little,
)
from vsim.hwbackend.replay.replaying import Carriers
from vsim.hwbackend.replay.rooms import MappedRoom, PagedRoom, PageRoom
from vsim.hwbackend.replay.source import Source
from vsim.hwbackend.replay.step_limits import Limits, limits_of
from vsim.hwbackend.replay.step_work import StepWork, WorkMaker
from vsim.sim.engine.backend import Backend
from vsim.sim.engine.booked import BookedBackend
from vsim.sim.engine.state import State
from vsim.traces.faults import refuse


@contextmanager
def gpu_carriers(
    source: Source, options: ReplayOptions, maker: WorkMaker | None = None
) -> Iterator[Carriers]:
    """Take what a replay needs of the GPUs while a block runs, and give all of it back.

    Args:
        source: what is replayed.
        options: how.
        maker: makes what steps launch; left out, the model's own kernels.

    Raises:
        InputError: there is no GPU for it, too little memory, or the driver fails.
    """
    if maker is None:
        maker = _maker(source)
    refuse_unfit(source)
    found = gpus_here()
    state = source.live.state() if source.live is not None else None
    slots = slots_of(source, options, state)
    limits = limits_of(source, options)
    try:
        disk = disk_tier(source, slots, options.disk)
        tiers = placed_tiers(source, slots, found, disk)
        with ExitStack() as held:
            context = held.enter_context(Context(found[0]))
            for other in _others(tiers, found):
                held.enter_context(Context(other))
            context.make_current()
            chunk = max(CHUNK_BYTES, *(granularity(tier.place) for tier in tiers))
            work_bytes = maker.bytes(limits)
            shares = [MemoryShare(context, tiers, work_bytes)]
            refuse_more_than_free(shares, source.plan.page_bytes, chunk)
            room = made_room(source, source.plan.page_bytes, tiers, chunk, found[0], limits)
            held.push(closing(room.close))
            if disk is not None:
                room = DiskRoom(room, sum(tier.slots for tier in tiers), disk)
                held.push(closing(room.close))
            work = maker.make(context, room, limits)
            held.push(closing(work.close))
            board = held.enter_context(Board(bus_id(found[0])))
            carriers = _carriers(source, options, context, room, work, state, board)
            yield replace(carriers, work_bytes=work_bytes)
    except CudaError as error:
        refuse("GPU", str(error))
    except DiskError as error:
        refuse("--disk", str(error))


def _maker(source: Source) -> WorkMaker:
    if source.selected is not None:
        from vsim.hwbackend.replay.selected_work import SelectedWorkMaker

        return SelectedWorkMaker(source, source.selected)
    from vsim.hwbackend.replay.model_work import ModelWorkMaker

    return ModelWorkMaker(source)


def work_bytes_of(source: Source, options: ReplayOptions) -> int:
    """What the steps of a replay take of the GPU beside pages. Raises InputError as that does."""
    refuse_unfit(source)
    return _maker(source).bytes(limits_of(source, options))


def slots_of(source: Source, options: ReplayOptions, state: State | None) -> tuple[int, ...]:
    """Page slots of each tier: those that a plan touches, or all that a live engine has."""
    if options.mode != "live":
        return source.plan.slots
    assert state is not None
    return tuple(state.arrays["t"]["slots"].tolist())


def gpus_here() -> tuple[Device, ...]:
    """The GPUs of this computer. Raises InputError where there is none, or the driver fails."""
    try:
        return devices()
    except CudaError as error:
        refuse("GPU", str(error))


def refuse_unfit(source: Source) -> None:
    """Refuse by name what these kernels can't replay."""
    if not source.plan.has_batches:
        refuse(
            source.file,
            "does not say which request reads which pages: name the scenario that it was made of, "
            "or a log of requests with output.operations: all",
        )
    if source.selected is not None and source.movement == "mapped":
        message = "engine.movement: mapped is for pages of requests"
        refuse("GPU", f"{message}; remove it for recorded attention")
    for part, precision in zip(("weights", "kv"), source.precision, strict=True):
        if precision != "bf16":
            message = f"{precision} has no kernels here; write precision.{part}: bf16"
            refuse("GPU", message, place=f"precision.{part}")


def _others(tiers: Sequence[TierSlots], found: Sequence[Device]) -> list[Device]:
    """GPUs whose memory is used and that do not compute."""
    places = {tier.place for tier in tiers}
    return [device for device in found[1:] if device.place in places]


@dataclass(frozen=True, slots=True)
class MemoryShare:
    """What a GPU that computes takes.

    Args:
        context: the GPU's.
        tiers: slots of its pages.
        work_bytes: of its steps.
    """

    context: Context
    tiers: Sequence[TierSlots]
    work_bytes: int


def refuse_more_than_free(shares: Sequence[MemoryShare], page_bytes: int, chunk: int) -> None:
    """Refuse what does not fit, place by place.

    Args:
        shares: of the GPUs that compute.
        page_bytes: that each has of a page.
        chunk: bytes of a chunk.
    """
    needed: dict[Place, int] = {}
    free: dict[Place, int | None] = {}
    for share in shares:
        own = share.context.device.place
        taken = bytes_needed(page_bytes, share.tiers, chunk)
        taken[own] = taken.get(own, 0) + share.work_bytes
        for place, size in taken.items():
            needed[place] = needed.get(place, 0) + size
        free[own] = share.context.free_bytes()
    hosts = [place for place in needed if place.kind == "host"]
    named = {str(place): size for place, size in needed.items() if place not in hosts}
    there = {str(place): size for place, size in free.items() if size is not None}
    if hosts:  # its nodes' memory is known together alone
        name = " and ".join(map(str, hosts))
        named[name] = sum(needed[place] for place in hosts)
        if (host := host_free_bytes()) is not None:
            there[name] = host
    refuse_too_little(named, there)


def made_room(
    source: Source,
    page_bytes: int,
    tiers: Sequence[TierSlots],
    chunk: int,
    reader: Device,
    limits: Limits,
) -> PageRoom:
    """Take the memory of the pages that a GPU reads, `page_bytes` of each being its."""
    readers = [reader]
    if source.movement == "paged":
        return PagedRoom(page_bytes, tiers, chunk, readers)
    if page_bytes % chunk:
        message = f"pages of {page_bytes:,} bytes on a GPU are no whole chunks of {chunk:,}"
        refuse("GPU", f"{message}; write a larger engine.page_tokens, or movement: paged")
    return MappedRoom(page_bytes, tiers, readers, requests=limits.requests, pages=limits.pages)


def _carriers(
    source: Source,
    options: ReplayOptions,
    context: Context,
    room: PageRoom,
    work: StepWork,
    state: State | None,
    board: Board,
) -> Carriers:
    backends: list[ClockedBackend] = []
    carriers: list[CudaCarrier] = []
    looked: list[Contents] = []

    def clocked() -> ClockedBackend:
        contents = None
        if options.verify and source.selected is None:
            names = PageNames(state) if state is not None else None
            contents = Contents(names, source.plan.page_tokens)
            looked.append(contents)
        carrier = CudaCarrier(context, room, work, contents, verify=options.verify)
        carriers.append(carrier)
        made = ClockedBackend(carrier)
        backends.append(made)
        return made

    def for_live(fresh: State) -> Backend:
        return BookedBackend(fresh, clocked())

    def facts() -> dict[str, Any]:
        if looked:
            with Stream() as stream:
                looked[-1].look_at_all(room, stream)
        return facts_of([context], [board], backends) | {
            "disk": room.file.about if isinstance(room, DiskRoom) else None,
            "pages_mapped": room.mapped,
            "mapping_s": room.mapped_ns / 1e9,
            "pages_verified": sum(each.checked for each in looked),
            "outputs_verified": sum(each.verified for each in carriers),
        }

    return Carriers(context.device.name, lambda _: clocked(), for_live, facts)


def facts_of(
    contexts: Sequence[Context], boards: Sequence[Board], backends: Sequence[ClockedBackend]
) -> dict[str, Any]:
    """What any replay says at its end: of GPUs the lowest clock and the power of all."""
    here, loads = read_facts(), [board.load() for board in boards]
    return {
        "device": contexts[0].device.name,
        "gpus": len(contexts),
        "date": here.date,
        "driver": here.driver,
        "cuda": here.cuda,
        "sm_mhz": min(load.sm_mhz for load in loads),
        "watts": sum(load.watts for load in loads),
        "skipped_s": sum(each.skipped_ns for each in backends) / 1e9,
        "host_prepared_s": sum(each.prepared_ns for each in backends) / 1e9,
        "host_finished_s": sum(each.finished_ns for each in backends) / 1e9,
    }
