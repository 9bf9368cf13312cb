"""Room grows, or is refused where captured launches rely on its address."""

from typing import Any

import numpy as np
import pytest

from vsim.hwbackend.attention import room
from vsim.hwbackend.attention.room import Room


class Buffer:
    """Stands in for memory of a GPU: an address and a size."""

    made = 0

    def __init__(self, size_bytes: int) -> None:
        Buffer.made += 1
        self.bytes, self.address, self.is_open = size_bytes, 4096 * Buffer.made, True

    def close(self) -> None:
        assert self.is_open
        self.is_open = False


class Stream:
    def synchronize(self) -> None:
        """Nothing is on it."""


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What was uploaded: (address, bytes)."""
    found: list[tuple[int, int]] = []

    def upload(address: int, array: Any, stream: Any) -> None:
        found.append((address, array.nbytes))

    monkeypatch.setattr(room, "DeviceBuffer", Buffer)
    monkeypatch.setattr(room, "upload", upload)
    return found


def test_an_array_keeps_its_address_until_it_has_doubled(written: list[tuple[int, int]]) -> None:
    stream: Any = Stream()
    with Room() as held:
        for size in (100, 200, 150, 201):
            held.put("items", np.zeros(size, np.int32), stream)
    addresses = [address for address, _ in written]
    assert addresses[0] == addresses[1] == addresses[2] != addresses[3]
    assert [size for _, size in written] == [400, 800, 600, 804]


def test_reserved_room_never_moves(written: list[tuple[int, int]]) -> None:
    stream: Any = Stream()
    with Room() as held:
        held.reserve("items", 800)
        for size in (1, 200):
            held.put("items", np.zeros(size, np.int32), stream)
        with pytest.raises(ValueError, match="804 bytes of items, where 800 were reserved"):
            held.put("items", np.zeros(201, np.int32), stream)
        with pytest.raises(ValueError, match="items has a place already"):
            held.reserve("items", 900)
    assert written[0][0] == written[1][0]
