"""PARTS: what the trial looks at, each a function of the bench that prints a table."""

from collections.abc import Callable, Mapping
from statistics import median
from types import MappingProxyType
from typing import Final

from vsim.hwbackend.preload.trial.bench import Bench
from vsim.hwbackend.preload.trial.outcome import GIB, MIB, MODES, Outcome, show
from vsim.hwbackend.preload.trial.several import several
from vsim.hwbackend.preload.trial.unmodified import in_turns, unmodified


def _doors(bench: Bench) -> Outcome:
    outcome = Outcome()
    program = bench.built("doors_program.c")
    for mode in (None, "record", "manage"):
        ran = bench.run(program, mode, record=False)
        outcome.add("doors", ran)
        doors = ran.said.get("doors", {})
        own = sum(all(place == "libvsim_preload.so" for place in row) for row in doors.values())
        print(f"{ran.mode:8} {len(doors)} functions, {own} by all doors in the library, "
              f"{ran.said.get('equal')} with equal addresses")  # fmt: skip
        if mode is not None:
            outcome.faults += [
                f"{symbol} leads to {row}" for symbol, row in doors.items()
                if any(place != "libvsim_preload.so" for place in row) and set(row) != {"none"}
            ]  # fmt: skip
    return outcome


def _memory(bench: Bench) -> Outcome:
    outcome = Outcome()
    program = bench.built("short_program.cu")
    for mode in (None, "manage"):
        ran = bench.run([*program, "granules"], mode)
        outcome.add("granules", ran)
        show("granules", ran)
    first = str(138 * GIB)  # few blocks fill the rest: a small recording of the same
    cases: tuple[tuple[str, str, list[str], tuple[str, ...]], ...] = (
        ("blocks", "blocks of 1.1 MiB, 75 %", ["blocks", "1153434", "0.75"], ()),
        ("beside", "blocks of 1.1 MiB beside 138 GiB", ["blocks", "1153434", "0.994", first], ()),
        ("pooled", "a pool that keeps 60 %", ["pooled"], ()),
        ("beyond", "8 GiB beyond the device", ["beyond", str(8 * GIB)], ("host",)),
    )
    for key, name, words, spill in cases:
        plain = bench.run([*program, *words], None)
        recorded = bench.run([*program, *words], "record", keep=f"{key}-record")
        managed = bench.run([*program, *words], "manage", spill=spill, keep=f"{key}-manage")
        for ran in (plain, recorded, managed):
            outcome.add(name, ran)
            show(name, ran)
        if managed.code:
            outcome.faults.append(f"{name}: fails under the library, too: {managed.error}")
    return outcome


def _holes(bench: Bench) -> Outcome:
    outcome = Outcome()
    program = bench.built("short_program.cu")
    for block in (2 * MIB, 64 * MIB):
        for mode in (None, "manage"):
            ran = bench.run([*program, "holes", str(block)], mode, record=False)
            outcome.add(f"holes of {block // MIB} MiB", ran)
            show(f"cudaMalloc, holes of {block // MIB} MiB", ran)
    torch = bench.python("torch_holes.py")
    for name, mode, setting in (
        ("PyTorch", None, ""),
        ("PyTorch, expandable", None, "expandable_segments:True"),
        ("PyTorch", "manage", ""),
        ("PyTorch, expandable", "manage", "expandable_segments:True"),
    ):
        ran = bench.run(
            torch, "manage" if mode else None, variables={"PYTORCH_CUDA_ALLOC_CONF": setting}
        )
        outcome.add(f"{name}, holes", ran)
        show(f"{name}, holes", ran)
    return outcome


def _calls(bench: Bench) -> Outcome:
    outcome = Outcome()
    program = bench.built("calls_program.cu")
    print(f"{'cudaMalloc, cudaFree of':>24} {'plain':>10} {'record':>10} {'manage':>10} us a pair")
    for size, pairs in ((1000, 4000), (MIB, 4000), (20 * MIB, 2000), (GIB, 100)):
        least: dict[str, float] = {}
        for repeat in range(3):
            for mode in MODES if repeat % 2 == 0 else reversed(MODES):
                ran = bench.run([*program, str(size), str(pairs), "5"], mode)
                outcome.add(f"calls {size}", ran)
                if ran.code:
                    outcome.faults.append(f"calls of {size} bytes in {ran.mode}: {ran.error}")
                    continue
                least[ran.mode] = min(least.get(ran.mode, 1e9), *ran.said["us"])
        row = " ".join(f"{least.get(mode, 0.0):10.2f}" for mode in ("plain", "record", "manage"))
        print(f"{size:24,} {row}", flush=True)
    return outcome


def _growth(bench: Bench) -> Outcome:
    outcome = Outcome()
    program = bench.built("growing_program.cu")
    for begin, added, repeats in (
        (40 * GIB, 64 * MIB, 3), (30 * GIB, 64 * MIB, 3), (GIB, GIB, 5), (GIB, 64 * MIB, 5),
        (64 * MIB, 64 * MIB, 5), (4 * MIB, 4 * MIB, 9),
    ):  # fmt: skip
        for way, mode in (("copy", None), ("map", "manage")):
            command = [*program, way, str(begin), str(added), str(repeats)]
            ran = bench.run(command, "manage" if mode else None, pool_bytes=0 if mode else None)
            outcome.add(f"{way} {begin} {added}", ran)
            times = ran.said.get("us")
            shown = (
                f"{median(times):10.1f} us ({min(times)} .. {max(times)})" if times else ran.said
            )
            print(f"{begin // MIB:6} MiB by {added // MIB:5} MiB {way:5} {shown}", flush=True)
    return outcome


def _chunks(bench: Bench) -> Outcome:
    outcome = Outcome()
    program = bench.built("chunks_program.c")
    print(f"{'chunk':>9} {'create':>9} {'map':>9} {'access':>9} {'unmap':>9} {'release':>9} "
          "us for 2 GiB")  # fmt: skip
    for chunk in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048):
        ran = bench.run([*program, str(2 * GIB), str(chunk * MIB), "5"], None)
        outcome.add(f"chunk {chunk} MiB", ran)
        rows = ran.said.get("us", [])
        if not rows:
            print(f"{chunk:5} MiB {ran.said} {ran.error}")
            continue
        medians = [median(row[call] for row in rows[1:]) for call in range(5)]
        print(f"{chunk:5} MiB " + " ".join(f"{us:9.1f}" for us in medians), flush=True)
    return outcome


def _ends(bench: Bench) -> Outcome:
    """What ends with a context, or by its last mapping: bytes balance, and nothing stays."""
    outcome = Outcome()
    program = bench.python("ends_program.py")
    rans = [bench.run(program, mode) for mode in MODES]
    for ran in rans:
        outcome.add("ends", ran)
        show("ends", ran)
        if ran.code or ran.said.get("digest") != rans[0].said.get("digest"):
            outcome.faults.append(f"{ran.mode}: exit code {ran.code}, {ran.said}: {ran.error}")
        if ran.balance is None:
            continue
        print(f"{'':34} {ran.balance}")
        if ran.balance.live or ran.balance.unseen_frees or ran.balance.other_releases:
            outcome.faults.append(f"{ran.mode}: bytes do not balance: {ran.balance}")
    return outcome


def _host(bench: Bench) -> Outcome:
    """Chunks of host memory: the first that this machine makes, and the same made again."""
    outcome = Outcome()
    program = bench.built("chunks_program.c")
    print(f"{'chunks in host memory':>24} {'made first':>11} {'again':>11} {'access':>9} s")
    for total, chunk in (
        (9 * GIB, GIB), (9 * GIB, GIB), (2 * GIB, 2 * GIB), (2 * GIB, 64 * MIB), (2 * GIB, 2 * MIB),
    ):  # fmt: skip
        ran = bench.run([*program, str(total), str(chunk), "4", "host"], None)
        outcome.add(f"{total // GIB} GiB of host memory in chunks of {chunk // MIB} MiB", ran)
        rows = ran.said.get("us", [])
        if not rows:
            outcome.faults.append(f"chunks of {chunk // MIB} MiB: {ran.said} {ran.error}")
            continue
        again, access = (median(row[call] for row in rows[1:]) / 1e6 for call in (0, 2))
        print(f"{total // GIB:6} GiB in {chunk // MIB:6} MiB {rows[0][0] / 1e6:11.3f} "
              f"{again:11.3f} {access:9.3f}", flush=True)  # fmt: skip
    return outcome


PARTS: Final[Mapping[str, Callable[[Bench], Outcome]]] = MappingProxyType(
    {
        "doors": _doors,
        "ends": _ends,
        "host": _host,
        "memory": _memory,
        "holes": _holes,
        "calls": _calls,
        "growth": _growth,
        "chunks": _chunks,
        "unmodified": unmodified,
        "turns": in_turns,
        "several": several,
    }
)
