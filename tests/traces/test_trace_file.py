"""Traces are read from pipes as from files, gzipped or not; what is neither is refused by name."""

import gzip
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.traces.mutations import TEXTS, binaries

from vsim.traces.arrow_io import kind_of, read_table
from vsim.traces.faults import InputError
from vsim.traces.importers import ImportOptions, import_requests
from vsim.traces.reading import read_requests
from vsim.traces.requests import requests_table
from vsim.traces.trace_file import open_trace

FILES = {**TEXTS, **binaries()}
REQUESTS = [name for name in FILES if not name.startswith("arrow") or name == "arrow requests"]


@contextmanager
def pipe(tmp_path: Path, data: bytes) -> Iterator[Path]:
    """Offer data through a named pipe, once."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
    writer.start()
    yield path
    writer.join(timeout=10)
    path.unlink()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_pipe_gives_what_the_file_gives(tmp_path: Path, name: str, zipped: bool) -> None:
    (tmp_path / "t").write_bytes(FILES[name])
    from_file = requests_table(read_requests(tmp_path / "t"))
    data = gzip.compress(FILES[name]) if zipped else FILES[name]
    with pipe(tmp_path, data) as path:
        assert requests_table(read_requests(path)).equals(from_file)
    (tmp_path / "z").write_bytes(data)
    assert requests_table(read_requests(tmp_path / "z")).equals(from_file)


def test_a_pipe_larger_than_any_buffer_loses_nothing(tmp_path: Path) -> None:
    row = '{"timestamp": %d, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n'
    data = "".join(row % (100 * i) for i in range(30_000)).encode()
    with pipe(tmp_path, data) as path:
        assert len(read_requests(path)) == 30_000


def test_the_kind_of_a_pipe_is_told_without_losing_it(tmp_path: Path) -> None:
    with pipe(tmp_path, FILES["arrow attention"]) as path, open_trace(path) as file:
        assert kind_of(file) == "attention"
        assert read_table(file, "attention").num_rows == 3
        assert Path(file.path).read_bytes() == FILES["arrow attention"]


def test_a_shell_s_pipe_is_read_by_every_command(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(TEXTS["mooncake"])
    vsim = f"{sys.executable} -m vsim_app"
    for command, words in (
        (f"{vsim} trace info <(cat t.jsonl)", "4 over 3 s"),
        (f"{vsim} trace check <(gzip -c t.jsonl)", "4 requests, no faults"),
        (f"cat t.jsonl | {vsim} trace import /dev/stdin --out o.arrow", "from a pipe"),
    ):
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert words in done.stdout


def refused(path: Path | str) -> str:
    with pytest.raises(InputError) as raised:
        import_requests(path)
    assert len(raised.value.faults) == 1
    return str(raised.value)


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    assert refused("/dev/null") == "/dev/null: is a device; name a file or a pipe"
    assert refused("/dev/zero") == "/dev/zero: is a device; name a file or a pipe"
    assert "cannot be read" in refused("a\0b")
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/s")
        assert refused(f"{short}/s") == f"{short}/s: is a socket; name a file or a pipe"


def test_an_empty_pipe_is_an_empty_file(tmp_path: Path) -> None:
    with pipe(tmp_path, b"") as path:
        assert refused(path) == f"{path}: is empty; name a trace with at least one request"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04....", "is a zip archive"),
        (b"\x28\xb5\x2f\xfd....", "is compressed with zstd"),
        (b"BZh9....", "is compressed with bzip2"),
        (b"\xfd7zXZ\x00....", "is compressed with xz"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "is gzipped twice"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "holds NUL bytes"),
        (b"\xff\xff\xff\xff\x10\0\0\0", "is an Arrow stream"),
    ],
)
def test_what_is_known_to_be_no_trace_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "t").write_bytes(data)
    assert words in refused(tmp_path / "t")


@pytest.mark.parametrize("name", ["agentic", "arrow requests"])
@pytest.mark.parametrize(
    "spoil", [lambda data: data[: len(data) // 2], lambda data: data[:-6] + b"\0\0" + data[-4:]]
)
def test_a_damaged_gzip_of_a_binary_is_one_fault(
    tmp_path: Path, name: str, spoil: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "t").write_bytes(spoil(gzip.compress(FILES[name], mtime=0)))
    with pytest.raises(InputError, match="its gzip data are") as raised:
        read_requests(tmp_path / "t")
    assert len(raised.value.faults) == 1


@pytest.mark.parametrize("size", [131_072, 3_000_000])
def test_a_cell_may_be_longer_than_a_csv_reader_s_default(tmp_path: Path, size: int) -> None:
    ids = " ".join(map(str, range(size // 8)))
    tokens = 16 * (size // 8)
    text = f"timestamp_s,input_length,output_length,hash_ids\n1,{tokens},1,{ids}\n"
    (tmp_path / "t").write_text(text)
    options = ImportOptions(block_tokens=16)
    assert len(import_requests(tmp_path / "t", options=options).requests.prefix_ids) == size // 8


def test_names_that_are_no_text_are_refused_and_odd_ones_shown_on_one_line(tmp_path: Path) -> None:
    columns = {"arrival": "at_s", "prompt": "in", "output": "out", "tenant": "who"}
    cases = [
        ("at_s,in,out,who\n1,5,5,caf\xe9\n".encode("latin-1"), "save the file as UTF-8"),
        (b'at_s,in,out,who\nx,5,5,"a\nb"\n', ":3: at_s: 'x' is no time in s"),
        (b'"at\n_s",in,out,who\n', r"no column of the table (did you mean 'at\n_s'"),
    ]
    for data, words in cases:
        (tmp_path / "t").write_bytes(data)
        with pytest.raises(InputError) as raised:
            import_requests(tmp_path / "t", options=ImportOptions(columns=columns))
        message = str(raised.value.faults[0])
        assert words in message
        assert "\n" not in message
