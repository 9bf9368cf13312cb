"""Free memory that PyTorch's caching allocator can't use: a small live block in every segment."""

import json

import torch

GIB = 1 << 30
SMALL, REST = 24 << 20, 1000 << 20


def main() -> None:
    """Fill the device with segments of 1 GiB, keep 24 MiB of each, ask for a large block."""
    available, _ = torch.cuda.mem_get_info()
    kept, rest = [], []
    for _ in range(int(0.9 * available) // GIB):
        whole = torch.empty(GIB, dtype=torch.uint8, device="cuda")
        del whole
        kept.append(torch.empty(SMALL, dtype=torch.uint8, device="cuda"))
        rest.append(torch.empty(REST, dtype=torch.uint8, device="cuda"))
    rest.clear()
    live = torch.cuda.memory_allocated()
    wanted = int(0.5 * available)
    try:
        got = torch.empty(wanted, dtype=torch.uint8, device="cuda") is not None
    except torch.OutOfMemoryError:
        got = False
    print(json.dumps({"live": live, "reserved": torch.cuda.memory_reserved(), "wanted": wanted,
                      "device": available, "got": got}))  # fmt: skip


if __name__ == "__main__":
    main()
