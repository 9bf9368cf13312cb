"""Reads and writes past the page cache: whole, aligned, and refused by name where they can't be."""

import errno
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsim.hwbackend.memory.files import ALIGNMENT, DiskError, PageFile
from vsim.traces.faults import InputError

KiB = 1024


@pytest.fixture
def aligned() -> Iterator[memoryview]:
    """A page of memory at an aligned address."""
    with mmap.mmap(-1, 64 * KiB) as pages, memoryview(pages) as view:
        yield view


@pytest.fixture(params=[True, False], ids=["direct", "cached"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PageFile]:
    with PageFile(tmp_path / "pages", 256 * KiB, direct=request.param) as made:
        yield made


def test_what_is_written_is_read(file: PageFile, aligned: memoryview) -> None:
    for page in range(4):
        aligned[:] = bytes([page + 1]) * len(aligned)
        file.write(page * 64 * KiB, aligned)
    for page in (2, 0, 3, 1):
        file.read(page * 64 * KiB, aligned)
        assert bytes(aligned) == bytes([page + 1]) * len(aligned)


def test_reads_bypass_the_page_cache_unless_it_is_asked_for(file: PageFile) -> None:
    with open(f"/proc/self/fdinfo/{file._file}") as info:
        flags = int(re.search(r"flags:\s+(\d+)", info.read())[1], 8)  # type: ignore[index]
    assert bool(flags & os.O_DIRECT) == file.direct


@settings(deadline=None, database=None)
@given(moves=st.lists(st.integers(0, 64 * KiB), max_size=30))
def test_short_reads_and_writes_are_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, moves: list[int]
) -> None:
    """Calls that move less than they were asked for, by any number of bytes, are followed up."""
    content = os.urandom(64 * KiB)
    path = tmp_path_factory.mktemp("short") / "pages"
    with PageFile(path, 64 * KiB) as file, mmap.mmap(-1, 64 * KiB) as pages:
        asked: list[tuple[int, int]] = []
        left = list(moves)

        def less(real: object, views: list[memoryview], at: int, file_number: int) -> int:
            asked.append((at, len(views[0])))
            most = max(left.pop() if left else len(views[0]), ALIGNMENT)
            done: int = real(file_number, views, at)  # type: ignore[operator]
            return min(done, most)

        with pytest.MonkeyPatch.context() as patch, memoryview(pages) as view:
            reads, writes = os.preadv, os.pwritev
            patch.setattr(os, "preadv", lambda f, views, at: less(reads, views, at, f))
            patch.setattr(os, "pwritev", lambda f, views, at: less(writes, views, at, f))
            view[:] = content
            file.write(0, view)
            view[:] = bytes(64 * KiB)
            file.read(0, view)
            assert bytes(view) == content
        assert all(at % ALIGNMENT == 0 and size % ALIGNMENT == 0 for at, size in asked)


def test_a_file_that_ends_too_early_says_where(file: PageFile, aligned: memoryview) -> None:
    os.ftruncate(file._file, 70_000)
    message = (
        r"preadv of \d[\d,]+ bytes at byte \d[\d,]+ of .*/pages failed: it moved [\d,]+ bytes, and "
        r"the file has 70,000"
    )
    with pytest.raises(DiskError, match=message):
        file.read(64 * KiB, aligned)


def test_a_disk_that_moves_less_than_a_sector_is_no_endless_loop(
    file: PageFile, aligned: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    with pytest.raises(DiskError, match="it moved 0 bytes"):
        file.write(0, aligned)


@pytest.mark.parametrize(("at", "size"), [(100, 4096), (0, 100), (4096, 4000)])
def test_direct_access_between_borders_is_refused(
    tmp_path: Path, aligned: memoryview, at: int, size: int
) -> None:
    with PageFile(tmp_path / "pages", 64 * KiB) as file:
        for move in (file.read, file.write):
            with pytest.raises(ValueError, match="are no multiple of 4,096"):
                move(at, aligned[:size])


@pytest.mark.parametrize(("at", "size"), [(-4096, 4096), (256 * KiB, 4096), (252 * KiB, 8192)])
def test_what_is_not_in_the_file_is_refused(
    file: PageFile, aligned: memoryview, at: int, size: int
) -> None:
    with pytest.raises(ValueError, match="are not in a file of 262,144"):
        file.read(at, aligned[:size])


def test_an_address_between_borders_is_named(
    tmp_path: Path, aligned: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "pwritev", strict)  # some disks take any address
    with (
        PageFile(tmp_path / "pages", 64 * KiB) as file,
        pytest.raises(DiskError, match="is the buffer's address a multiple of 4,096?"),
    ):
        file.write(0, aligned[1 : 1 + ALIGNMENT])


def test_a_failing_disk_is_named(
    file: PageFile, aligned: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(
        DiskError,
        match=r"^preadv of 65,536 bytes at byte 65,536 of .*/pages failed: Input/output .* \(5\)$",
    ):
        file.read(64 * KiB, aligned)


def test_a_file_system_without_direct_access_is_refused_by_name_and_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuses(path: Path, flags: int, mode: int) -> int:
        if flags & os.O_DIRECT:
            os.close(real(path, flags & ~os.O_DIRECT, mode))
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refuses)
    with pytest.raises(InputError) as caught:
        PageFile(tmp_path / "pages", 4096)
    assert str(caught.value) == (
        f"{tmp_path}/pages: is on a file system that takes no direct reads and writes (O_DIRECT); "
        "name a file on a local disk, such as ext4 or XFS, or ask for the page cache"
    )
    assert list(tmp_path.iterdir()) == []
    with PageFile(tmp_path / "pages", 4096, direct=False) as file:
        assert not file.direct


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match="is there already; name a file that is not"):
        PageFile(tmp_path / "mine", 4096)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InputError, match="has no room for 8,192 bytes: No space left on device"):
        PageFile(tmp_path / "pages", 8192)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be made: No such file or directory"):
        PageFile(tmp_path / "none" / "pages", 4096)


def test_nothing_is_left_even_while_it_is_open(tmp_path: Path) -> None:
    with PageFile(tmp_path / "pages", 4096) as file:
        assert list(tmp_path.iterdir()) == []
        file.close()
