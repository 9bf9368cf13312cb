"""Programs whose allocations are recorded: training, inference, growing KV, several streams.

Each does a few seconds of work with PyTorch on one GPU and frees nothing by hand. Sizes are drawn
from a seed, so that two runs ask for the same blocks in the same order.
"""

import random
from collections.abc import Callable
from typing import Any, Final

ALLOWED_BYTES: Final = 600 * 2**20


def train(torch: Any) -> None:
    """Train a small transformer with Adam for 6 steps of 8 sequences of 256 tokens."""
    torch.manual_seed(0)
    model = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(512, 8, 2048, dropout=0.0, batch_first=True), 6
    ).cuda()
    head = torch.nn.Linear(512, 8192).cuda()
    parameters = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3)
    for _ in range(6):
        tokens = torch.randn(8, 256, 512, device="cuda")
        wanted = torch.randint(0, 8192, (8, 256), device="cuda")
        found = head(model(tokens))
        loss = torch.nn.functional.cross_entropy(found.flatten(0, 1), wanted.flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    torch.cuda.synchronize()


def mlp(torch: Any) -> None:
    """Train an MLP for 12 steps with batches of changing size, as the last of an epoch is."""
    torch.manual_seed(0)
    draw = random.Random(1)
    layers = [torch.nn.Linear(2048, 2048) for _ in range(8)]
    model = torch.nn.Sequential(*(m for layer in layers for m in (layer, torch.nn.GELU()))).cuda()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(12):
        batch = torch.randn(draw.choice((512, 512, 777, 1024, 1300)), 2048, device="cuda")
        optimiser.zero_grad(set_to_none=True)
        model(batch).square().mean().backward()
        optimiser.step()
    torch.cuda.synchronize()


def lengths(torch: Any) -> None:
    """Serve 40 prompts of changing lengths, a transformer's forward each."""
    torch.manual_seed(0)
    draw = random.Random(2)
    model = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(1024, 16, 4096, dropout=0.0, batch_first=True), 4
    ).cuda()
    model.eval()
    with torch.no_grad():
        for _ in range(40):
            tokens = int(min(6000, draw.lognormvariate(6.6, 0.9))) + 16
            model(torch.randn(1, tokens, 1024, device="cuda"))
    torch.cuda.synchronize()


def growing_kv(torch: Any) -> None:
    """Decode 6 sequences, each layer's keys and values grown token by token with `torch.cat`."""
    torch.manual_seed(0)
    draw = random.Random(3)
    kept: list[Any] = []
    for _ in range(6):
        prompt = draw.randrange(100, 3000)
        caches = [torch.zeros(1, 8, prompt, 128, device="cuda", dtype=torch.float16)
                  for _ in range(8)]  # fmt: skip
        for _ in range(40):
            caches = [
                torch.cat([cache, torch.zeros_like(cache[:, :, :1])], dim=2) for cache in caches
            ]
        kept.append(caches[: draw.randrange(1, 8)])
        if len(kept) > 3:
            kept.pop(0)
    torch.cuda.synchronize()


def streams(torch: Any) -> None:
    """Work on three streams that hand tensors to each other, so that frees wait for events."""
    torch.manual_seed(0)
    draw = random.Random(4)
    side = [torch.cuda.Stream() for _ in range(3)]
    weight = torch.randn(2048, 2048, device="cuda")
    handed: list[Any] = []
    for at in range(120):
        with torch.cuda.stream(side[at % 3]):
            made = torch.randn(draw.randrange(64, 3000), 2048, device="cuda") @ weight
            handed.append(made)
        if len(handed) > 4:
            taken = handed.pop(draw.randrange(len(handed)))
            other = side[(at + 1) % 3]
            other.wait_stream(side[at % 3])
            with torch.cuda.stream(other):
                taken.record_stream(other)
                taken.relu().sum()
            del taken
    torch.cuda.synchronize()


def fraction(torch: Any) -> float:
    """The share of the GPU's memory that `capped` is allowed: of 600 MiB."""
    return ALLOWED_BYTES / float(torch.cuda.mem_get_info(0)[1])


def capped(torch: Any) -> None:
    """Take and drop blocks with 600 MiB allowed: cached segments go, and some calls fail."""
    torch.cuda.set_per_process_memory_fraction(fraction(torch))
    draw = random.Random(5)
    kept: list[Any] = []
    for _ in range(400):
        size = int(draw.lognormvariate(15.5, 1.6)) + 1
        try:
            kept.append(torch.empty(min(size, 300 * 2**20), dtype=torch.uint8, device="cuda"))
        except torch.cuda.OutOfMemoryError:
            del kept[: len(kept) // 2]
        if draw.random() < 0.45 and kept:
            kept.pop(draw.randrange(len(kept)))
    torch.cuda.synchronize()


def graphs(torch: Any) -> None:
    """Capture four graphs, two of them of one pool, among other work; two are dropped."""
    torch.manual_seed(0)
    draw = random.Random(6)
    weight = torch.randn(1024, 1024, device="cuda")
    inputs = torch.randn(3000, 1024, device="cuda")

    def work(count: int) -> Any:
        found = []
        for _ in range(count):
            made = (inputs[: draw.randrange(64, 3000)] @ weight).relu()
            found.append(made.sum(dim=1))
        return torch.cat(found)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # libraries take what they keep before a capture
        work(2)
    torch.cuda.synchronize()
    held: list[Any] = []
    for pool in (None, 0, None, None):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=None if pool is None else held[pool][0].pool()):
            result = work(5)
        held.append((graph, result))
        del graph, result
        for _ in range(2):
            for at in range(len(held)):
                held[at][0].replay()
            work(4)
    torch.cuda.synchronize()
    held.pop(2)  # the graph and its result: nothing of its pool is left
    work(4)
    torch.cuda.empty_cache()
    work(4)
    held[2] = (None, held[2][1])  # the graph alone: its result stays in the pool
    torch.cuda.empty_cache()
    work(4)
    torch.cuda.synchronize()


def callables(torch: Any) -> None:
    """Train an MLP whose forward and backward are graphs (`make_graphed_callables`), 6 steps."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(1536, 1536) for _ in range(6)]
    model = torch.nn.Sequential(*(m for layer in layers for m in (layer, torch.nn.GELU()))).cuda()
    sample = torch.randn(777, 1536, device="cuda")
    graphed = torch.cuda.make_graphed_callables(model, (sample,))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(6):
        batch = torch.randn(777, 1536, device="cuda")
        optimiser.zero_grad(set_to_none=True)
        (graphed(batch) - batch).square().mean().backward()
        optimiser.step()
    torch.cuda.synchronize()


PROGRAMS: Final[dict[str, Callable[[Any], None]]] = {
    "train": train,
    "mlp": mlp,
    "lengths": lengths,
    "growing_kv": growing_kv,
    "streams": streams,
    "capped": capped,
    "graphs": graphs,
    "callables": callables,
}

SETTINGS: Final[dict[str, str]] = {
    "default": "",
    "expandable": "expandable_segments:True",
    "split64": "max_split_size_mb:64",
    "power2": "roundup_power2_divisions:4",
    "collected": "garbage_collection_threshold:0.6",
}
"""Names of the allocator's settings, as PYTORCH_CUDA_ALLOC_CONF takes them."""


def runs() -> list[tuple[str, str]]:
    """The recordings that are made: every program with the default and expandable segments, and
    those where another setting acts, with it."""
    made = [(program, setting) for program in PROGRAMS for setting in ("default", "expandable")]
    return [*made, ("lengths", "split64"), ("capped", "split64"), ("lengths", "power2"),
            ("mlp", "power2"), ("capped", "collected")]  # fmt: skip
