"""Two GPUs and several processes: peers' memory, NCCL, and memory that is handed to others."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from vsim.hwbackend.preload.environment import Mode
from vsim.hwbackend.preload.trial.bench import Bench, Ran
from vsim.hwbackend.preload.trial.outcome import GIB, MODES, Outcome, show

_REFUSED: Final = "cudaIpcGetMemHandle is refused"
_LONGEST_S: Final = 90
_NCCL: Final[Mapping[str, dict[str, str]]] = {
    "NCCL, its memory by cuMemCreate": {"NCCL_CUMEM_ENABLE": "1"},
    "NCCL, its memory by cudaMalloc": {"NCCL_CUMEM_ENABLE": "0"},
    "NCCL, segments registered": {
        "NCCL_CUMEM_ENABLE": "1", "TORCH_NCCL_USE_TENSOR_REGISTER_ALLOCATOR_HOOK": "1",
    },
    "NCCL, expandable segments": {
        "NCCL_CUMEM_ENABLE": "1", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    },
    "NCCL through the host": {"NCCL_CUMEM_ENABLE": "0", "NCCL_P2P_DISABLE": "1"},
}  # fmt: skip
_SHARED: Final[Mapping[str, dict[str, str]]] = {
    "torch.multiprocessing": {},
    "the same, expandable segments": {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
}


def several(bench: Bench) -> Outcome:
    """Run programs that share memory with another GPU or process; results equal in every mode.

    All of them at once: it is of what they compute, not of how long it takes.
    """
    outcome = Outcome()
    peers, torch = bench.built("peers_program.cu"), bench.python("torch_several.py")
    cases: dict[str, tuple[list[str], dict[str, str]]] = {"an IPC handle": ([*peers, "share"], {})}
    for name, variables in _SHARED.items():
        cases[name] = ([*torch, "share"], variables)
    if bench.gpus() < 2:
        print("only one GPU: peers and NCCL were not tried")
    else:
        cases["peers in one process"] = (peers, {})
        for name, variables in _NCCL.items():
            cases[name] = ([*torch, "parallel"], variables)

    def run(name: str, mode: Mode | None) -> Ran:
        command, variables = cases[name]
        return bench.run(command, mode, variables=variables, longest_s=_LONGEST_S)

    with ThreadPoolExecutor(len(cases) * len(MODES)) as pool:
        begun = {name: [pool.submit(run, name, mode) for mode in MODES] for name in cases}
    for name, futures in begun.items():
        rans = [future.result() for future in futures]
        for ran in rans:
            outcome.add(name, ran)
            show(name, ran)
            if _REFUSED in ran.error:
                print(f"{'':34} said: {ran.error[ran.error.index(_REFUSED) :].splitlines()[0]}")
        outcome.faults += [f"{name}: {fault}" for fault in _faults(rans)]
    if bench.gpus() > 1:
        _beyond_one_gpu(bench, outcome)
    return outcome


def _beyond_one_gpu(bench: Bench, outcome: Outcome) -> None:
    """More blocks than a GPU has memory: what finds no room lies in the other's."""
    command = [*bench.built("short_program.cu"), "beyond", str(8 * GIB)]
    for mode, spill in ((None, ()), ("manage", ("peer",))):
        ran = bench.run(command, "manage" if mode else None, spill=spill)
        outcome.add("8 GiB beyond one GPU", ran)
        show("8 GiB beyond one GPU", ran)
        placed = ran.balance.spilled_bytes if ran.balance else 0
        if mode and (ran.code or not placed):
            outcome.faults.append(f"8 GiB beyond one GPU, spilled to the other: exit code "
                                  f"{ran.code}, {placed} bytes spilled: {ran.error}")  # fmt: skip


def _faults(rans: list[Ran]) -> list[str]:
    """What may not be: another result, or a failure without the word that says what to do."""
    plain, *others = rans
    if plain.code:
        return [f"fails without the library, too: exit code {plain.code}: {plain.error}"]
    found = []
    for ran in others:
        refused = ran.mode == "manage" and _REFUSED in ran.error
        if ran.code and not refused:
            found.append(f"{ran.mode}: exit code {ran.code}: {ran.error}")
        elif not ran.code and ran.said.get("digest") != plain.said.get("digest"):
            found.append(f"{ran.mode}: results differ")
    return found
