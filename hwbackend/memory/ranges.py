"""AddressRange: consecutive addresses under which chunks of any place can be put, and changed."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.device import Device
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.held import Held, close_after, do_all
from vsim.hwbackend.cuda.streams import Event
from vsim.hwbackend.memory.chunks import Chunk

_READ_WRITE: Final = 3  # CU_MEM_ACCESS_FLAGS_PROT_READWRITE
_NO_CONTEXT: Final = (201, 709)  # CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_CONTEXT_IS_DESTROYED


class AddressRange(Held):
    """A reserved range in steps of one chunk. It holds addresses and mappings, not chunks' memory.

    The driver maps a chunk whole, gives access to a run of mapped chunks in one call, and does not
    wait for kernels when it unmaps: whoever unmaps says by an event when the last reader is done.

    Args:
        chunks: how many it has room for.
        chunk_bytes: of each.
        readers: GPUs whose kernels and copies may use it.
    """

    def __init__(self, chunks: int, chunk_bytes: int, readers: Sequence[Device]) -> None:
        self.chunk_bytes = chunk_bytes
        self.bytes = chunks * chunk_bytes
        self._access = _access(readers)
        self._for_whom = ", ".join(str(reader.place) for reader in readers)
        self._mapped: list[Chunk | None] = [None] * chunks
        self._end = 0
        self._left: set[int] = set()
        """Where an error left a chunk mapped that the range does not have any more."""
        detail = f"{self.bytes:,} bytes"
        self._base: Any = call("cuMemAddressReserve", self.bytes, 0, 0, 0, detail=detail)
        self.base = int(self._base)

    def __len__(self) -> int:
        return len(self._mapped)

    @property
    def mapped_bytes(self) -> int:
        """Bytes that have a chunk under them."""
        return sum(chunk is not None for chunk in self._mapped) * self.chunk_bytes

    def address(self, index: int) -> int:
        """Where a chunk's addresses begin."""
        return self.base + index * self.chunk_bytes

    def chunk(self, index: int) -> Chunk | None:
        """What is under an index."""
        return self._mapped[index]

    def map(self, at: int, chunks: Sequence[Chunk]) -> None:
        """Put chunks side by side, wherever each of them is; all of them or, on an error, none.

        Args:
            at: the index of the first, free like those after it.
            chunks: of this range's size.
        """
        self._must_be_free(at, chunks)
        if not chunks:
            return
        done = 0
        try:
            for chunk in chunks:
                self._map_one(at + done, chunk)
                done += 1
            self._allow(at, len(chunks))
        except BaseException as error:
            self._left.update(range(at, at + done))
            close_after(error, self._unmap_left)
            raise
        self._mapped[at : at + len(chunks)] = chunks
        self._end = max(self._end, at + len(chunks))

    def grow(self, chunks: Sequence[Chunk]) -> int:
        """Put chunks behind the last one: what is there stays where it is. Returns their index."""
        at = self._end
        self.map(at, chunks)
        return at

    def unmap(self, at: int, count: int, after: Event | None) -> list[Chunk]:
        """Take chunks from their addresses.

        Args:
            at: the index of the first.
            count: how many, all mapped.
            after: the end of everything that reads or writes them; None where nothing does.

        Returns:
            The chunks, which nobody has now.
        """
        chunks = [chunk for chunk in self._mapped[max(at, 0) : at + count] if chunk is not None]
        if len(chunks) != count or count < 0:
            raise ValueError(f"not all of {count} chunks from index {at} are mapped")
        if after is not None:
            after.synchronize()
        if count:
            self._unmap(at, count)
            self._forget(at, count)
        return chunks

    def remap(self, index: int, chunk: Chunk, after: Event | None) -> Chunk:
        """Put another chunk under an address in use; on an error the old one is there again.

        If that fails too, nothing is there, and the error says so.

        Args:
            index: which.
            chunk: with the contents that should be there.
            after: the end of everything that reads or writes the old one.

        Returns:
            The old chunk.
        """
        old = self.unmap(index, 1, after)[0]
        try:
            self.map(index, [chunk])
        except BaseException as error:
            close_after(error, lambda: self._put_back(index, old))
            raise
        return old

    def close(self) -> list[Chunk]:
        """Wait for the current GPU, unmap everything and give the addresses back.

        An exception may have left work behind that reads what goes; another GPU's must have ended.

        Returns:
            The chunks.
        """
        chunks = [chunk for chunk in self._mapped if chunk is not None]
        if self._base is not None:
            runs = [partial(self._unmap_run, at, count) for at, count in self._runs()]
            do_all([_wait_for_work, *runs, self._unmap_left, self._free_addresses])
        return chunks

    def _runs(self) -> Iterator[tuple[int, int]]:
        start = None
        for index, chunk in enumerate([*self._mapped, None]):
            if chunk is not None and start is None:
                start = index
            elif chunk is None and start is not None:
                yield start, index - start
                start = None

    def _must_be_free(self, at: int, chunks: Sequence[Chunk]) -> None:
        if at < 0 or at + len(chunks) > len(self._mapped):
            asked = f"{len(chunks)} chunks from index {at}"
            raise ValueError(f"{asked} are not in a range of {len(self._mapped)}")
        if any(chunk.bytes != self.chunk_bytes for chunk in chunks):
            raise ValueError(f"a chunk's size is not the range's {self.chunk_bytes:,} bytes")
        wanted = range(at, at + len(chunks))
        if any(self._mapped[index] is not None or index in self._left for index in wanted):
            raise ValueError(f"some of {len(chunks)} chunks from index {at} are mapped already")

    def _map_one(self, index: int, chunk: Chunk) -> None:
        call("cuMemMap", self.address(index), chunk.bytes, 0, chunk.handle, 0, detail=chunk)

    def _allow(self, at: int, count: int) -> None:
        size = count * self.chunk_bytes
        detail, wanted = f"{size:,} bytes for {self._for_whom}", self._access
        call("cuMemSetAccess", self.address(at), size, wanted, len(wanted), detail=detail)

    def _unmap(self, at: int, count: int) -> None:
        size = count * self.chunk_bytes
        call("cuMemUnmap", self.address(at), size, detail=f"{size:,} bytes")

    def _unmap_run(self, at: int, count: int) -> None:
        """Unmap a run; if that fails, each of its chunks."""
        try:
            self.unmap(at, count, None)
        except CudaError as error:
            if count > 1:
                each = [partial(self.unmap, index, 1, None) for index in range(at, at + count)]
                close_after(error, lambda: do_all(each))
            raise

    def _put_back(self, index: int, old: Chunk) -> None:
        self._unmap_left()  # the new chunk, if it could not be taken away when it failed
        self.map(index, [old])

    def _unmap_left(self) -> None:
        do_all([partial(self._unmap_one_left, index) for index in sorted(self._left)])

    def _unmap_one_left(self, index: int) -> None:
        self._unmap(index, 1)
        self._left.remove(index)

    def _free_addresses(self) -> None:
        if self.mapped_bytes or self._left:
            return  # the driver would refuse; what failed before has been said
        call("cuMemAddressFree", self._base, self.bytes, detail=f"{self.bytes:,} bytes")
        self._base = None

    def _forget(self, at: int, count: int) -> None:
        self._mapped[at : at + count] = [None] * count
        while self._end and self._mapped[self._end - 1] is None:
            self._end -= 1


def _access(readers: Sequence[Device]) -> list[Any]:
    """What GPUs may do with what is mapped, as the driver takes it."""
    from cuda.bindings import driver

    wanted = []
    for reader in readers:
        each = driver.CUmemAccessDesc()
        each.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        each.location.id = reader.ordinal
        each.flags = driver.CUmemAccess_flags(_READ_WRITE)
        wanted.append(each)
    return wanted


def _wait_for_work() -> None:
    try:
        call("cuCtxSynchronize")
    except CudaError as error:
        if error.code not in _NO_CONTEXT:  # then this thread has started no work
            raise
