"""Check and time the attention kernels on the GPU that is here.

`python -m vsim.hwbackend.attention.trial --check --variants ";warps=8,blocks=1"`

Every time is a CUDA graph of many calls that rotate over more pages than L2 holds, the median of
repeats; the read ceiling, a plain kernel's, is measured in the same run.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from vsim.hwbackend.attention.checking import cases, check_decode
from vsim.hwbackend.attention.checking_prefill import check_prefill, prefill_cases
from vsim.hwbackend.attention.decode import SOURCE, DecodeVariant, variant_for
from vsim.hwbackend.attention.layout import PageLayout
from vsim.hwbackend.attention.paged_kernel import group_of
from vsim.hwbackend.attention.prefill import SOURCE as PREFILL_SOURCE
from vsim.hwbackend.attention.prefill import prefill_defines
from vsim.hwbackend.attention.timing import Shape, Timing
from vsim.hwbackend.compiling.compiler import architecture, compiled
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import Device, devices
from vsim.hwbackend.cuda.places import Place, place_of
from vsim.sim.timing.equal_shares import LEAST_SLICES
from vsim.traces.faults import InputError

SHAPES: Final = "32x8192,64x4096,256x1024,4x32768,1x131072,8x2048,1x8192"
SLOW_BYTES: Final = 2 << 30
Job = tuple[Path, dict[str, int | str]]
Variants = Sequence[DecodeVariant | None]
"""None is the one that `variant_for` chooses."""


def variants_of(text: str) -> Variants:
    """Read variants as `warps=8,blocks=1;early=0`; an empty one is the best known.

    Raises ValueError for others, as the readers below do: argparse makes a line of it.
    """
    kinds = {field.name: field.type for field in fields(DecodeVariant)}
    found: list[DecodeVariant | None] = []
    for one in text.split(";"):
        pairs = dict(pair.split("=") for pair in one.split(",") if pair)
        if not set(pairs) <= set(kinds):
            raise ValueError(text)
        given = {
            name: bool(int(value)) if kinds[name] is bool else int(value)
            for name, value in pairs.items()
        }
        found.append(replace(DecodeVariant(), **given) if given else None)  # type: ignore[arg-type]  # kinds are as fields say
    return found


def pairs_of(text: str) -> list[tuple[int, int]]:
    """Read `32x8192,1x131072`; "none" and nothing are none."""
    if text in ("", "none"):
        return []
    return [(int(a), int(b)) for a, b in (one.split("x") for one in text.split(","))]


def heads_of(text: str) -> tuple[int, int, int]:
    """Read `32/8x128`: query heads, KV heads, head size."""
    heads, rest = text.split("/")
    kv_heads, dim = rest.split("x")
    return int(heads), int(kv_heads), int(dim)


def slow_of(text: str) -> tuple[Place, list[float]]:
    """Read `device:1=0.04,0.07`: a place, and the shares of the pages that lie there."""
    place, shares = text.split("=")
    return place_of(place), [float(share) for share in shares.split(",")]


def short(variant: DecodeVariant | None) -> str:
    """Name a variant in a few letters."""
    if variant is None:
        return "best"
    shape = f"w{variant.warps}s{variant.stages}b{variant.blocks}t{variant.together}"
    return shape + "+early" * variant.early


def time_all(
    timing: Timing, shapes: Sequence[Shape], layout: PageLayout, heads: int,
    variants: Variants, slow_share: float = 0.0,
) -> None:  # fmt: skip
    """Print a line a variant, a column a shape, in GB/s."""
    order = "head-major" if layout.head_major else "token-major"
    print(f"{layout.page_tokens} tokens a page, {order}, {layout.layers} layers, "
          f"{heads}/{layout.kv_heads}x{layout.head_dim}, {slow_share:.1%} slow")  # fmt: skip
    print(" " * 28 + " ".join(f"{shape!s:>9}" for shape in shapes), flush=True)
    sizes = [shape.kv_bytes(layout) for shape in shapes]
    plain = (f"{size / timing.read_us(size) / 1e3:9.0f}" for size in sizes)
    print(f"{'a plain kernel':28}" + " ".join(plain), flush=True)
    for variant in variants:
        row = []
        for shape in shapes:
            us = timing.decode_us(shape, layout, heads, variant, slow_share)
            row.append(f"{shape.kv_bytes(layout) / us[len(us) // 2] / 1e3:9.0f}")
        print(f"{short(variant):28}" + " ".join(row), flush=True)


def time_prefill(
    timing: Timing, chunks: Sequence[tuple[int, int]], layout: PageLayout, heads: int
) -> None:
    """Print a line a chunk: microseconds, and arithmetic of the pairs that are not masked."""
    for new, context in chunks:
        us = timing.prefill_us(new, context, layout, heads)
        us_once = us[len(us) // 2]
        pairs = new * context - new * (new - 1) // 2
        rate = 4 * pairs * heads * layout.head_dim / us_once / 1e6
        print(f"prefill {new} new of {context}: {us_once:.1f} us, {rate:.0f} TFLOP/s", flush=True)


def compile_ahead(shapes: Sequence[tuple[int, PageLayout]], variants: Variants) -> None:
    """Compile all that is wanted into the cache, on all cores: the GPU need not wait for it."""
    device = devices()[0]
    arch = architecture(device.capability)
    todo = {str(job): job for shape in shapes for job in _jobs(*shape, variants, device)}
    # A process that has talked to the driver must not fork.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_compile, arch), todo.values()))


def _jobs(group: int, layout: PageLayout, variants: Variants, device: Device) -> Iterator[Job]:
    yield PREFILL_SOURCE, prefill_defines(group, layout)
    for variant in variants:
        built = variant or variant_for(group, layout, device.shared_bytes)
        yield SOURCE, built.defines(group, layout)


def _compile(arch: str, job: Job) -> None:
    compiled(job[0], arch, job[1])


def run(given: argparse.Namespace) -> bool:
    """Check and time what the arguments say; return whether all was right."""
    heads, kv_heads, dim = given.heads
    shape = PageLayout(given.page, kv_heads, dim, given.layers)
    wanted = list(cases())[: given.few] if given.check else []
    ahead = [(case.heads // case.layout.kv_heads, case.layout) for case in wanted]
    compile_ahead([*ahead, (group_of(heads, shape), shape)], given.variants)
    slow, shares = given.slow or (None, [])
    with ExitStack() as held:
        if slow is not None and slow.kind == "device":
            held.enter_context(Context(slow.number))  # its memory is there once it has one
        context = held.enter_context(Context(0))
        device = context.device
        print(f"{device.name}, {device.multiprocessors} multiprocessors, L2 {device.l2_bytes:,}")
        if given.check:
            passed = check_decode(context, given.variants, wanted)
            passed &= check_prefill(context, list(prefill_cases())[: given.few])
            if not passed:
                return False
        shapes = [Shape(*each) for each in given.shapes]
        if not shapes and not given.prefill:
            return True
        sizes = int(given.pool_gib * 2**30), given.chunk_mib << 20
        timing = held.enter_context(Timing(context, *sizes, slow, SLOW_BYTES, given.least))
        runs = ", ".join(f"{n} B {timing.gathered(n):.0f}" for n in (256, 4096, 32768))
        print(f"read ceiling {timing.ceiling():.0f} GB/s; runs in random order: {runs}")
        for order in ("head", "token") if given.order == "both" else (given.order,):
            layout = replace(shape, head_major=order == "head")
            time_prefill(timing, given.prefill, layout, heads)
            for share in [0.0, *shares] if shapes else []:
                time_all(timing, shapes, layout, heads, given.variants, share)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line: 0 all is right, 1 it is not, 2 the arguments or no GPU."""
    parser = argparse.ArgumentParser(prog="vsim.hwbackend.attention.trial", description=__doc__)
    add = parser.add_argument
    add("--check", action="store_true", help="compare with float64 first")
    add("--shapes", type=pairs_of, default=SHAPES, help="requests x context, or none")
    add("--variants", type=variants_of, default="", help="as warps=8,blocks=1;early=0")
    add("--heads", type=heads_of, default="32/8x128", help="query heads/KV heads x head size")
    add("--page", type=int, default=16, help="tokens of a page")
    add("--layers", type=int, default=1, help="of a page; calls rotate over them")
    add("--order", choices=("head", "token", "both"), default="head", help="of a page's bytes")
    add("--pool-gib", type=float, default=8, help="pages in the GPU's memory")
    add("--least", type=int, default=LEAST_SLICES, help="slices of a share")
    add("--prefill", type=pairs_of, default="", help="new tokens x context, as 2048x8192")
    add("--chunk-mib", type=int, default=512, help="chunks under the pages")
    add("--slow", type=slow_of, help="another place and shares, as device:1=0.04,0.07")
    add("--few", type=int, default=1000, help="so many cases to check at most")
    try:
        return 0 if run(parser.parse_args(arguments)) else 1
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
