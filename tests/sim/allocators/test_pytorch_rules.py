"""PyTorch's rules worked out by hand: what is rounded, split, merged, given back and mapped.

Sizes in MiB unless they say otherwise; each comment is the arithmetic from the allocator's
constants (512 B, small up to 1, segments of 2 and 20, own segments from 10 in steps of 2).
"""

import pytest

from vsim.sim.allocators.caching import CachingAllocator, CachingOptions, segment_bytes
from vsim.sim.allocators.device import MIB, DeviceMemory
from vsim.sim.allocators.expandable import ExpandableAllocator
from vsim.sim.allocators.rounding import read_divisions, rounded


def caching(capacity: int | None = None, **options: int | float) -> CachingAllocator:
    return CachingAllocator(DeviceMemory(capacity), CachingOptions(**options))  # type: ignore[arg-type] # given by name


@pytest.mark.parametrize(
    ("asked", "block"),
    [(1, 512), (512, 512), (513, 1024), (MIB, MIB), (MIB + 1, MIB + 512), (4097, 4608)],
)
def test_sizes_go_up_to_512_bytes(asked: int, block: int) -> None:
    assert rounded(asked) == block


@pytest.mark.parametrize(
    ("asked", "divisions", "block"),
    [
        (
            1200 * 1024,
            4,
            1280 * 1024,
        ),  # between 1 and 2 MiB in quarters: 1024, 1280, 1536, 1792 KiB
        (1024 * 1024, 4, 1024 * 1024),
        (1025 * 1024, 2, 1536 * 1024),
        (2048, 4, 2048),  # not above 512 · 4: to 512 bytes as ever
        (2049, 4, 2560),
    ],
)
def test_sizes_go_up_to_a_part_of_a_power_of_two(asked: int, divisions: int, block: int) -> None:
    assert rounded(asked, divisions) == block


@pytest.mark.parametrize(
    ("text", "by_interval"),
    [
        # 16 intervals from 1 MiB on: 64 MiB begins the 7th, 128 the 8th, 256 the 9th, 1024 the 11th
        ("[64:8]", (8,) * 7 + (0,) * 9),
        ("[64:8,256:4]", (8,) * 7 + (0, 4) + (0,) * 7),
        ("[64:8, 128:2,256:2,512:2,1024:1,>:1]", (8,) * 7 + (2,) * 3 + (1,) * 6),
        ("[256:1,512:2,1024:4,>:8]", (1,) * 9 + (2,) + (8,) * 6),  # > takes the last one's place
        ("[>:4]", (4,) * 16),
        ("[65536:2]", (2,) * 16),  # 64 GiB would be the 17th: it is the last
    ],
)
def test_divisions_by_size_are_read_as_pytorch_reads_them(
    text: str, by_interval: tuple[int, ...]
) -> None:
    assert read_divisions(text) == by_interval


def test_divisions_by_size_round_in_their_interval_alone() -> None:
    by_size = read_divisions("[64:8,256:4]")
    assert rounded(84 * MIB, by_size) == 88 * MIB  # 64 MiB in eighths: 72, 80, 88
    assert rounded(3 * MIB + 1, by_size) == 3 * MIB + MIB // 4  # 2 MiB in eighths
    assert rounded(130 * MIB + 1, by_size) == 130 * MIB + 512  # none from 128 to 256
    assert rounded(300 * MIB, by_size) == 320 * MIB  # 256 MiB in quarters
    assert rounded(600 * MIB + 1, by_size) == 600 * MIB + 512
    assert rounded(5000, by_size) == 5120  # 4096 in eighths of 512
    assert rounded(4096, by_size) == 4096  # not above 512 · 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("64:8", "is no list of sizes"),
        ("[64:]", "is no list of sizes"),
        ("[]", "is no list of sizes"),
        ("[64:3]", "has 3 parts; write 0 or a power of two"),
        ("[48:2]", "has an interval from 48 MiB; write a power of two"),
        ("[0:2]", "has an interval from 0 MiB"),
    ],
)
def test_wrong_divisions_are_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_divisions(text)


@pytest.mark.parametrize(
    ("block", "segment"),
    [(512, 2), (MIB, 2), (MIB + 512, 20), (10 * MIB - 512, 20), (10 * MIB, 10), (11 * MIB, 12)],
)
def test_segments_are_of_2_of_20_or_of_the_request_s_own_size(block: int, segment: int) -> None:
    assert segment_bytes(block) == segment * MIB


def test_small_blocks_share_a_segment_of_2_mib_and_large_ones_one_of_20() -> None:
    allocator = caching()
    for handle in range(4):
        allocator.malloc(handle, MIB // 2, 0)
    assert allocator.reserved_bytes == 2 * MIB
    allocator.malloc(4, 512, 0)  # 2 MiB are full
    assert allocator.reserved_bytes == 4 * MIB
    allocator.malloc(5, 9 * MIB, 0)
    allocator.malloc(6, 9 * MIB, 0)  # 20 - 9 = 11 hold it
    assert allocator.reserved_bytes == 24 * MIB


def test_a_large_block_is_split_if_more_than_1_mib_is_left() -> None:
    for second, left_behind in ((18 * MIB, 2 * MIB), (19 * MIB, 0)):
        allocator = caching()
        allocator.malloc(0, 20 * MIB, 0)
        allocator.free(0)
        allocator.malloc(1, second, 0)  # 20 - 18 = 2 > 1 is split off; 20 - 19 = 1 is not
        assert allocator.reserved_bytes - allocator.allocated_bytes == left_behind


def test_the_smallest_block_that_fits_is_taken_and_of_equals_the_lowest() -> None:
    allocator = caching()
    for handle, size in enumerate((30, 24, 24)):
        allocator.malloc(handle, size * MIB, 0)
    addresses = [address for address, _, _ in allocator.segments()]
    for handle in (2, 0, 1):
        allocator.free(handle)
    allocator.malloc(3, 23 * MIB, 0)
    used = [b.address for _, _, blocks in allocator.segments() for b in blocks if not b.free]
    assert used == [addresses[1]]


def test_free_neighbours_merge_within_their_segment_alone() -> None:
    allocator = caching()
    for handle in range(3):
        allocator.malloc(handle, 5 * MIB, 0)  # one segment of 20: 5, 5, 5 and 5 left
    allocator.malloc(3, 12 * MIB, 0)  # a segment of its own
    for handle in (0, 2, 1, 3):
        allocator.free(handle)
    sizes = [[b.size for b in blocks] for _, _, blocks in allocator.segments()]
    assert sizes == [[20 * MIB], [12 * MIB]]


def test_a_stream_s_cache_serves_no_other_stream() -> None:
    allocator = caching()
    allocator.malloc(0, 12 * MIB, 0)
    allocator.free(0)
    allocator.malloc(1, 12 * MIB, 7)
    assert allocator.reserved_bytes == 24 * MIB


def test_whole_free_segments_go_back_before_a_call_fails() -> None:
    allocator = caching(capacity=40 * MIB)
    allocator.malloc(0, 20 * MIB, 0)
    allocator.malloc(1, 16 * MIB, 0)
    allocator.free(0)
    assert allocator.malloc(2, 24 * MIB, 0)  # 36 + 24 > 40; without the cached 20: 16 + 24 = 40
    assert allocator.reserved_bytes == 40 * MIB
    assert not allocator.malloc(3, 2 * MIB, 0)
    assert allocator.retries == 2


def test_a_split_segment_does_not_go_back_while_a_part_of_it_is_in_use() -> None:
    allocator = caching(capacity=20 * MIB)
    allocator.malloc(0, 5 * MIB, 0)
    allocator.malloc(1, 5 * MIB, 0)
    allocator.free(0)
    assert not allocator.malloc(2, 12 * MIB, 0)  # 15 of 20 are free, in pieces of 5 and 10
    assert allocator.reserved_bytes == 20 * MIB


def test_oversize_blocks_are_not_split_and_serve_no_smaller_request() -> None:
    allocator = caching(max_split_bytes=32 * MIB)
    allocator.malloc(0, 100 * MIB, 0)
    allocator.free(0)
    allocator.malloc(1, 30 * MIB, 0)  # below 32: not from the block of 100
    assert allocator.reserved_bytes == 130 * MIB
    allocator.malloc(2, 79 * MIB, 0)  # 100 ≥ 79 + 20: too large for it as well
    assert allocator.reserved_bytes == 210 * MIB
    allocator.malloc(3, 81 * MIB, 0)  # 100 < 81 + 20: taken whole
    assert allocator.reserved_bytes == 210 * MIB
    assert allocator.allocated_bytes == (30 + 80 + 100) * MIB


def test_an_oversize_block_goes_back_alone_where_it_is_enough() -> None:
    allocator = caching(capacity=200 * MIB, max_split_bytes=32 * MIB)
    for handle, size in enumerate((100, 40, 20)):
        allocator.malloc(handle, size * MIB, 0)
        allocator.free(handle)
    assert allocator.malloc(
        3, 70 * MIB, 0
    )  # 160 + 70 > 200: the block of 100 goes, the others stay
    assert allocator.reserved_bytes == (40 + 20 + 70) * MIB


def test_collection_gives_back_what_was_idle_longer_than_the_mean() -> None:
    allocator = caching(collection_threshold=0.5, limit_bytes=200 * MIB)
    for handle, size in enumerate((40, 50, 60)):
        allocator.malloc(handle, size * MIB, 0)
    allocator.free(0)  # idle since the third search
    for _ in range(3):
        allocator.malloc(9, 50 * MIB - 1, 1)
        allocator.free(9)
    # Before the segment on stream 1 was taken: 150 > 100 reserved, and 40 the only idle block, so
    # it went; from then on 60 + 50 + 50 are reserved.
    assert allocator.reserved_bytes == 160 * MIB


def test_expandable_segments_map_20_mib_at_a_time_behind_what_is_free() -> None:
    allocator = ExpandableAllocator(DeviceMemory())
    allocator.malloc(0, 15 * MIB, 0)
    assert allocator.reserved_bytes == 20 * MIB
    allocator.malloc(1, 15 * MIB, 0)  # 5 are free: 10 are missing, one chunk
    assert allocator.reserved_bytes == 40 * MIB
    allocator.malloc(2, 50 * MIB, 0)  # 10 are free: 40 are missing, two chunks
    assert allocator.reserved_bytes == 80 * MIB
    allocator.malloc(3, 512, 0)  # the small pool has a range of its own, in chunks of 2
    assert allocator.reserved_bytes == 82 * MIB
    assert allocator.device.calls["create", 20 * MIB, 2] == 1


def test_expandable_segments_unmap_chunks_that_nothing_is_in() -> None:
    allocator = ExpandableAllocator(DeviceMemory(100 * MIB))
    allocator.malloc(0, 30 * MIB, 0)
    allocator.malloc(1, 30 * MIB, 0)  # 60 mapped, full
    allocator.free(0)  # [0, 30) is free: of [0, 20), [20, 40) only the first chunk lies in it
    allocator.trim()
    assert allocator.reserved_bytes == 40 * MIB
    allocator.malloc(2, 20 * MIB, 0)  # back into the hole at the start, which is the lowest place
    assert allocator.reserved_bytes == 60 * MIB
    (_, _, blocks), *_ = allocator.segments()
    assert [b.size for b in blocks if b.mapped] == [20 * MIB, 10 * MIB, 30 * MIB]


def test_growth_copies_with_both_blocks_there_for_a_moment() -> None:
    allocator = caching()
    allocator.malloc(0, 100 * MIB, 0)
    assert allocator.grow(0, 1, 100 * MIB, 110 * MIB, 0)
    assert allocator.device.peak_bytes == 210 * MIB
    assert allocator.device.calls["copy", 100 * MIB, 1] == 1
    assert allocator.allocated_bytes == 110 * MIB


PRIVATE = 5


def beside_a_private_pool(capacity: int | None = None, **options: int | float) -> CachingAllocator:
    return CachingAllocator(
        DeviceMemory(capacity),
        CachingOptions(**options),  # type: ignore[arg-type] # given by name
        frozenset({PRIVATE}),
    )


def test_a_private_pool_shares_no_segment_and_keeps_its_own() -> None:
    allocator = beside_a_private_pool()
    allocator.malloc(0, MIB, 0)
    allocator.free(0)
    assert allocator.reserved_bytes == 2 * MIB
    allocator.malloc(1, MIB, PRIVATE)  # 2 MiB are cached, for others
    assert allocator.reserved_bytes == 4 * MIB
    allocator.free(1)
    allocator.malloc(2, MIB, 0)
    allocator.malloc(3, 512, PRIVATE)  # each takes what it had
    assert allocator.reserved_bytes == 4 * MIB
    allocator.free(2)
    allocator.free(3)
    allocator.trim()  # empty_cache leaves a graph its memory
    assert allocator.reserved_bytes == 2 * MIB
    allocator.malloc(4, MIB, PRIVATE)
    assert allocator.reserved_bytes == 2 * MIB


def test_out_of_memory_in_a_capture_gives_nothing_back() -> None:
    allocator = beside_a_private_pool(30 * MIB)
    allocator.malloc(0, 20 * MIB, 0)
    allocator.free(0)
    assert not allocator.malloc(1, 12 * MIB, PRIVATE)  # 10 are left, 20 cached for others
    assert allocator.retries == 0
    assert allocator.malloc(2, 12 * MIB, 1)  # another common stream: the 20 go
    assert (allocator.reserved_bytes, allocator.retries) == (12 * MIB, 1)
    assert allocator.malloc(3, 12 * MIB, PRIVATE)
    assert allocator.reserved_bytes == 24 * MIB


def test_an_oversize_block_of_the_private_pool_itself_goes() -> None:
    allocator = beside_a_private_pool(60 * MIB, max_split_bytes=20 * MIB)
    allocator.malloc(0, 50 * MIB, PRIVATE)
    allocator.free(0)
    # 50 is more than 20 above 24, so it is not taken; the pool's own oversize block makes room.
    assert allocator.malloc(1, 24 * MIB, PRIVATE)
    assert allocator.reserved_bytes == 24 * MIB


def test_collection_passes_private_pools_by_and_their_searches_do_not_count() -> None:
    allocator = beside_a_private_pool(collection_threshold=0.5, limit_bytes=100 * MIB)
    allocator.malloc(0, 30 * MIB, PRIVATE)
    allocator.malloc(1, 30 * MIB, 0)
    allocator.free(0)
    allocator.free(1)
    allocator.malloc(2, 34 * MIB, 0)  # 60 of 50: the common 30 goes, the private one stays
    assert allocator.reserved_bytes == 30 * MIB + 34 * MIB
    assert allocator.malloc(3, 30 * MIB, PRIVATE)
    assert allocator.reserved_bytes == 64 * MIB


def test_expandable_segments_of_a_private_pool_stay_mapped() -> None:
    allocator = ExpandableAllocator(DeviceMemory(), None, frozenset({PRIVATE}))
    for handle, stream in ((0, 0), (1, PRIVATE)):
        allocator.malloc(handle, 30 * MIB, stream)  # two chunks of 20 each
        allocator.free(handle)
    assert allocator.reserved_bytes == 80 * MIB
    allocator.trim()
    assert allocator.reserved_bytes == 40 * MIB


def test_a_private_pool_goes_with_the_common_ones_once_its_graphs_are_gone() -> None:
    allocator = beside_a_private_pool()
    allocator.malloc(0, 30 * MIB, PRIVATE)
    allocator.malloc(1, 12 * MIB, PRIVATE)
    allocator.free(0)
    allocator.trim()
    assert allocator.reserved_bytes == 42 * MIB
    allocator.release(PRIVATE)
    assert allocator.reserved_bytes == 42 * MIB  # nothing goes by itself
    allocator.trim()
    assert allocator.reserved_bytes == 12 * MIB  # what lives in it stays
    allocator.free(1)
    allocator.trim()
    assert allocator.reserved_bytes == 0
