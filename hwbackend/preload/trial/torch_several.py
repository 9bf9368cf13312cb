"""Unmodified PyTorch programs of several processes: `parallel` (two GPUs) and `share` (one).

`parallel` trains a small model by DistributedDataParallel over NCCL and hands tensors around by
collectives; `share` gives a tensor to another process by torch.multiprocessing. Each prints a
digest.
"""

import hashlib
import json
import os
import sys
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing


def _digest(tensors: list[torch.Tensor]) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()[:24]


def _parallel(rank: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.cuda.set_device(rank)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    group: Any = torch.distributed
    group.init_process_group("nccl", rank=rank, world_size=2, device_id=torch.device("cuda", rank))
    layers = [torch.nn.Linear(1024, 1024) for _ in range(4)]
    model: Any = torch.nn.Sequential(*layers).cuda()
    model = torch.nn.parallel.DistributedDataParallel(model, device_ids=[rank])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    made = torch.Generator(device="cuda")
    made.manual_seed(rank)
    for _ in range(10):
        batch = torch.randn(256, 1024, device="cuda", generator=made)
        optimizer.zero_grad(set_to_none=True)
        (model(batch) - batch).square().mean().backward()
        optimizer.step()
    results = [*model.parameters()]
    for size in (1000, 300_001, 5_000_000, 40_000_000):
        mine = torch.randn(size, device="cuda", generator=made)
        summed = mine.clone()
        group.all_reduce(summed)
        both = torch.empty(2 * size, device="cuda")
        group.all_gather_into_tensor(both, mine)
        other = torch.empty_like(mine)
        requests = [group.P2POp(group.isend, mine, 1 - rank),
                    group.P2POp(group.irecv, other, 1 - rank)]  # fmt: skip
        for request in group.batch_isend_irecv(requests):
            request.wait()
        results += [summed, both, other]
    torch.cuda.synchronize()
    found = [""] * 2
    group.all_gather_object(found, _digest(results))
    group.destroy_process_group()
    if rank == 0:
        nccl = ".".join(map(str, torch.cuda.nccl.version()))
        print(json.dumps({"digest": "+".join(found), "nccl": nccl}), flush=True)


def _child(queue: Any, back: Any) -> None:
    shared = queue.get()
    back.put(float(shared.double().sum()))
    del shared


def _share() -> None:
    context = torch.multiprocessing.get_context("spawn")
    queue, back = context.SimpleQueue(), context.SimpleQueue()
    process = context.Process(target=_child, args=(queue, back))
    tensor = torch.arange(1_000_000, device="cuda", dtype=torch.float32)
    try:
        torch.multiprocessing.reductions.reduce_tensor(tensor)
    except RuntimeError as error:  # it can't be shared; the program goes on by way of the host
        said = str(error).splitlines()[0]
        process.start()
        queue.put(tensor.cpu())
        shared = False
    else:
        process.start()
        queue.put(tensor)
        said, shared = "", True
    total = back.get()
    process.join(30)
    print(json.dumps({"digest": f"{total:.1f}", "shared": shared, "said": said,
                      "child": process.exitcode}))  # fmt: skip


def main() -> None:
    """Run one of the two."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if sys.argv[1] == "share":
        _share()
    else:
        torch.multiprocessing.spawn(_parallel, args=(29500 + os.getpid() % 1000,), nprocs=2)


if __name__ == "__main__":
    main()
