"""`tensor_carriers`: backends of a model that lies on several of this computer's GPUs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import Device, granularity
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.board import Board
from vsim.hwbackend.measuring.facts import bus_id
from vsim.hwbackend.replay.clocked_backend import ClockedBackend
from vsim.hwbackend.replay.closing import close_current, closing
from vsim.hwbackend.replay.contents import Contents
from vsim.hwbackend.replay.gpu import (
    MemoryShare,
    facts_of,
    gpus_here,
    made_room,
    refuse_more_than_free,
    refuse_unfit,
    slots_of,
)
from vsim.hwbackend.replay.gpu_share import GpuShare
from vsim.hwbackend.replay.needs import CHUNK_BYTES
from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.page_names import PageNames
from vsim.hwbackend.replay.places import placed_tiers, tier_kinds
from vsim.hwbackend.replay.replaying import Carriers
from vsim.hwbackend.replay.rooms import PageRoom
from vsim.hwbackend.replay.source import Source
from vsim.hwbackend.replay.step_limits import Limits, limits_of
from vsim.hwbackend.replay.tensor_carrier import TensorCarrier
from vsim.hwbackend.replay.tensor_work import GpusWork, GpusWorkMaker, TensorWorkMaker
from vsim.sim.engine.backend import Backend
from vsim.sim.engine.booked import BookedBackend
from vsim.sim.engine.state import State
from vsim.traces.faults import refuse


@contextmanager
def tensor_carriers(
    source: Source, options: ReplayOptions, maker: GpusWorkMaker | None = None
) -> Iterator[Carriers]:
    """Take what a replay needs of the GPUs while a block runs, and give all of it back.

    Args:
        source: what is replayed; its model lies on several GPUs.
        options: how.
        maker: makes what steps launch; left out, the model's own kernels.

    Raises:
        InputError: there are too few GPUs for it, too little memory, or the driver fails.
    """
    gpus = _fitting(source, options)
    if maker is None:
        maker = TensorWorkMaker(source)
    state = source.live.state() if source.live is not None else None
    slots = slots_of(source, options, state)
    limits = limits_of(source, options)
    try:
        with ExitStack() as held:
            taken = _Gpus.take(source, gpus, slots, limits, maker, held)
            yield _carriers(source, options, taken, state)
    except CudaError as error:
        refuse("GPU", str(error))


def tensor_work_bytes(source: Source, options: ReplayOptions) -> int:
    """What steps take of all GPUs beside pages. Raises InputError as `tensor_carriers` does."""
    _fitting(source, options)
    return source.gpus * TensorWorkMaker(source).bytes(limits_of(source, options))


def _fitting(source: Source, options: ReplayOptions) -> tuple[Device, ...]:
    """The GPUs that share the model; what they can't replay is refused by name."""
    refuse_unfit(source)
    if source.selected is not None:
        message = f"the model is spread over {source.gpus} GPUs, and recorded attention on one"
        refuse("GPU", f"{message}; write parallel: {{tensor: 1}}")
    if options.disk is not None:
        message = f"the model is spread over {source.gpus} GPUs, whose pages lie on no disk"
        refuse("--disk", f"{message}; remove it, or write --stand-in nvme=host")
    if source.server is None:
        message = f"is of a model over {source.gpus} GPUs; name the scenario that it was made of"
        refuse(source.file, message)
    degrees = source.server.scenario.parallel
    for name, degree in (("pipeline", degrees.pipeline), ("expert", degrees.expert)):
        if degree > 1:
            message = f"{degree} is not replayed on GPUs; write 1, and tensor: {source.gpus}"
            refuse("GPU", message, place=f"parallel.{name}")
    for name, kind in zip(source.plan.tiers, tier_kinds(source), strict=True):
        if kind == "peer":
            message = f"is memory of a GPU left free, and all {source.gpus} compute"
            refuse("GPU", f"{message}; write --stand-in {name}=host", place=f"tier {name}")
    found = gpus_here()
    if len(found) < source.gpus:
        there = "there is one" if len(found) == 1 else f"there are {len(found)}"
        message = f"the model is spread over {source.gpus} GPUs, and {there}"
        refuse("GPU", f"{message}; write parallel: {{tensor: {len(found)}}}")
    return found[: source.gpus]


@dataclass(frozen=True, slots=True)
class _Gpus:
    """What was taken of each GPU, and of all.

    Args:
        contexts: of each.
        rooms: each one's share of the pages.
        work: launches steps on all.
        boards: of each.
        work_bytes: that steps take of all.
    """

    contexts: tuple[Context, ...]
    rooms: tuple[PageRoom, ...]
    work: GpusWork
    boards: tuple[Board, ...]
    work_bytes: int

    @classmethod
    def take(
        cls,
        source: Source,
        gpus: Sequence[Device],
        slots: Sequence[int],
        limits: Limits,
        maker: GpusWorkMaker,
        held: ExitStack,
    ) -> "_Gpus":
        """Take it until `held` is closed."""
        page_bytes = source.plan.page_bytes // len(gpus)
        tiers = [placed_tiers(source, slots, [gpu]) for gpu in gpus]
        places = {tier.place for each in tiers for tier in each}
        chunk = max(CHUNK_BYTES, *map(granularity, places))
        contexts = tuple(held.enter_context(Context(gpu)) for gpu in gpus)
        work_bytes = maker.bytes(limits)
        shares = [
            MemoryShare(context, each, work_bytes)
            for context, each in zip(contexts, tiers, strict=True)
        ]
        refuse_more_than_free(shares, page_bytes, chunk)
        rooms = tuple(_room(source, page_bytes, share, chunk, limits, held) for share in shares)
        work = maker.make(contexts, rooms, limits)
        held.push(closing(work.close))
        boards = tuple(held.enter_context(Board(bus_id(gpu))) for gpu in gpus)
        return cls(contexts, rooms, work, boards, len(gpus) * work_bytes)


def _room(
    source: Source,
    page_bytes: int,
    share: MemoryShare,
    chunk: int,
    limits: Limits,
    held: ExitStack,
) -> PageRoom:
    share.context.make_current()
    room = made_room(source, page_bytes, share.tiers, chunk, share.context.device, limits)
    held.push(closing(close_current(share.context, room.close)))
    return room


def _carriers(source: Source, options: ReplayOptions, gpus: _Gpus, state: State | None) -> Carriers:
    backends: list[ClockedBackend] = []
    carriers: list[TensorCarrier] = []
    looked: list[Contents] = []

    def clocked() -> ClockedBackend:
        with ExitStack() as undo:
            shares = []
            for context, room in zip(gpus.contexts, gpus.rooms, strict=True):
                context.make_current()
                contents = None
                if options.verify:
                    names = PageNames(state) if state is not None else None
                    contents = Contents(names, source.plan.page_tokens)
                    looked.append(contents)
                shares.append(undo.enter_context(GpuShare(context, room, contents)))
            undo.pop_all()
        carrier = TensorCarrier(shares, gpus.work, verify=options.verify)
        carriers.append(carrier)
        made = ClockedBackend(carrier)
        backends.append(made)
        return made

    def for_live(fresh: State) -> Backend:
        return BookedBackend(fresh, clocked())

    def facts() -> dict[str, Any]:
        last = looked[-len(gpus.rooms) :]
        for context, room, contents in zip(gpus.contexts, gpus.rooms, last, strict=False):
            context.make_current()
            with Stream() as stream:
                contents.look_at_all(room, stream)
        return facts_of(gpus.contexts, gpus.boards, backends) | {
            "apart_s": sum(each.apart_ns for each in carriers) / 1e9,
            "disk": None,
            "pages_mapped": max(room.mapped for room in gpus.rooms),
            "mapping_s": max(room.mapped_ns for room in gpus.rooms) / 1e9,
            "pages_verified": sum(each.checked for each in looked),
            "outputs_verified": sum(each.verified for each in carriers),
        }

    name = f"{len(gpus.contexts)} x {gpus.contexts[0].device.name}"
    return Carriers(name, lambda _: clocked(), for_live, facts, gpus.work_bytes)
