"""The simulator's model of the library does what the library does, call by call.

Programs at random on the fake driver; the model sees what they ask for and nothing else.
"""

from pathlib import Path

import numpy as np
import pytest
from tests.hwbackend.preload.building import Bench

from vsim.hwbackend.preload.balance import peak_reserved
from vsim.hwbackend.preload.events import Op, read_events
from vsim.sim.allocators.device import DeviceMemory, Outside
from vsim.sim.allocators.preload import PreloadAllocator

MIB = 1 << 20
Script = list[tuple[int, int]]
"""Handles and bytes; 0 bytes: a free."""
Did = list[tuple[str, int, int]]
"""What was made or gathered, its bytes, and how many bytes had gone back to the driver before."""


class Watched(DeviceMemory):
    """Memory that writes down what is done with it; state: that list, shared with others."""

    def __init__(
        self, place: str, did: Did, released: list[int], capacity: int | None = None,
        beside: "dict[Outside, Watched] | None" = None,
    ) -> None:  # fmt: skip
        super().__init__(capacity, beside=beside)
        self._place, self._did, self._released = place, did, released

    def create(self, chunk_bytes: int, chunks: int) -> bool:
        made = super().create(chunk_bytes, chunks)
        if made:
            self._did.append((f"create {self._place}", chunk_bytes, sum(self._released)))
        return made

    def reserve(self, size: int) -> int:
        self._did.append((f"gather {self._place}", size, sum(self._released)))
        return super().reserve(size)

    def release(self, chunk_bytes: int, chunks: int) -> None:
        super().release(chunk_bytes, chunks)
        self._released[0] += chunk_bytes * chunks


def drawn(seed: int, calls: int) -> Script:
    """Mallocs of all sizes, and frees of what is there, in bursts."""
    random = np.random.Generator(np.random.PCG64(seed))
    script: Script = []
    live: list[int] = []
    shrinking = False
    for handle in range(calls):
        if len(live) > 60 or (live and random.random() < 0.02):
            shrinking = not shrinking
        if live and random.random() < (0.8 if shrinking else 0.3):
            script.append((live.pop(int(random.integers(len(live)))), 0))
            continue
        largest = (2000, 100_000, MIB, 3 * MIB, 17 * MIB, 60 * MIB)[int(random.integers(6))]
        size = int(random.integers(1, largest))
        script.append((handle, size if random.random() < 0.7 else -(-size // MIB) * MIB))
        live.append(handle)
    return script


def predicted(
    script: Script, device: int, pool: int | None, host: bool
) -> tuple[Did, list[bool], dict[str, int]]:
    did: Did = []
    released = [0]
    beside: dict[Outside, Watched] = {"host": Watched("host", did, released)} if host else {}
    memory = Watched("own", did, released, device, beside)
    # The fake driver's fence is reached by the second question, and never by the first.
    allocator = PreloadAllocator(memory, pool, asked_to_pass=2)
    failed: set[int] = set()
    went = []
    for handle, size in script:
        if size:
            went.append(allocator.malloc(handle, size, 0))
            if not went[-1]:
                failed.add(handle)
        elif handle not in failed:
            allocator.free(handle)
    peaks = {"device": memory.peak_bytes}
    if host:
        peaks["host"] = beside["host"].peak_bytes
    return did, went, peaks


def done(
    bench: Bench, script: Script, folder: Path, device: int, pool: int | None, host: bool
) -> tuple[Did, list[bool], dict[str, int]]:
    lines = [f"m {handle} {size}" if size else f"f {handle}" for handle, size in script]
    (folder / "script").write_text("\n".join(lines) + "\n")
    logs = folder / "logs"
    logs.mkdir()
    program: list[Path | str] = [bench.program("script"), folder / "script", str(device // MIB)]
    run = bench.run(program, spill=("host",) if host else (), pool_bytes=pool, log=logs)
    assert run.returncode == 0, run.stderr
    (log,) = read_events(logs)
    did: Did = []
    released = 0
    for event in log.events:
        place = "host" if event["place"] else "own"
        if event["op"] == Op.TRIM:
            released += int(event["bytes"])
        elif event["op"] in (Op.CREATE, Op.GATHER):
            name = "create" if event["op"] == Op.CREATE else "gather"
            did.append((f"{name} {place}", int(event["bytes"]), released))
    mallocs = log.events[log.events["op"] == Op.MALLOC]
    return did, (mallocs["result"] == 0).tolist(), peak_reserved(log)


@pytest.mark.parametrize(
    ("seed", "device_mib", "pool_mib", "host"),
    [(1, 65536, None, False), (2, 700, None, False), (3, 400, 64, False), (4, 300, None, True),
     (5, 200, 8, True), (6, 1000, 0, False), (7, 150, None, False), (8, 100, 32, True)],
)  # fmt: skip
def test_the_model_makes_and_gathers_what_the_library_does(
    bench: Bench, tmp_path: Path, seed: int, device_mib: int, pool_mib: int | None, host: bool
) -> None:
    script = drawn(seed, 1500)
    device, pool = device_mib * MIB, None if pool_mib is None else pool_mib * MIB
    found = done(bench, script, tmp_path, device, pool, host)
    wanted = predicted(script, device, pool, host)
    assert found[1] == wanted[1]
    assert found[0] == wanted[0]
    assert found[2] == wanted[2]
    if device_mib < 500 and not host:
        assert not all(found[1])  # memory did run out
    if host:
        assert all(found[1])
        assert any(name == "create host" for name, _, _ in found[0])


def test_growth_makes_the_same_chunks_and_gives_the_same_back(bench: Bench, tmp_path: Path) -> None:
    sizes = {0: [3, 8, 9, 30, 31, 12, 40, 90], 1: [1, 4, 8, 2, 60], 2: [20, 24, 70, 71]}  # MiB
    lines = [f"m {number} {mib[0] * MIB}" for number, mib in sizes.items()]
    steps = [(number, mib[at] * MIB) for at in range(1, 8) for number, mib in sizes.items()
             if at < len(mib)]  # fmt: skip
    lines += [f"g {number} {size}" for number, size in steps]
    (tmp_path / "script").write_text("\n".join(lines) + "\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    program: list[Path | str] = [bench.program("script"), tmp_path / "script", "200"]
    run = bench.run(program, pool_bytes=16 * MIB, log=logs)
    assert run.returncode == 0, run.stderr
    (log,) = read_events(logs)
    events = log.events
    found = events[events["op"] == Op.CREATE]["bytes"].tolist()

    did: Did = []
    memory = Watched("own", did, [0], 200 * MIB)
    allocator = PreloadAllocator(memory, 16 * MIB, asked_to_pass=2)
    held = {number: mib[0] * MIB for number, mib in sizes.items()}
    for number, size in held.items():
        assert allocator.malloc(number, size, 0)
    went = []
    handle = {number: number for number in sizes}
    for new, (number, size) in enumerate(steps, start=10):
        went.append(allocator.grow(handle[number], new, held[number], size, 0))
        if went[-1]:
            held[number], handle[number] = size, new
    assert [size for name, size, _ in did if name.startswith("create")] == found
    grown = events[events["op"] == Op.REALLOC]
    assert (grown["result"] == 0).tolist() == went
    assert not all(went)  # 90 + 60 + 71 are more than there is
    assert peak_reserved(log) == {"device": memory.peak_bytes}
    assert memory.calls["copy", MIB, 1] == 1  # out of the slab
