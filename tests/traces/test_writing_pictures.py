"""PNG files: those that vsim drew are told from other people's."""

import struct
import zlib
from pathlib import Path

import pytest

from vsim.traces.faults import InputError
from vsim.traces.writing import fresh_file, png_text


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(software: str) -> bytes:
    """One grey pixel, with a text in front of it, as drawing libraries write it."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    text = chunk(b"tEXt", b"Software\0" + software.encode("latin-1"))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\x7f"))
    return b"\x89PNG\r\n\x1a\n" + head + text + pixels + chunk(b"IEND", b"")


def replaced(path: Path, content: bytes) -> None:
    with fresh_file(path, "size plot") as fresh:
        fresh.path.write_bytes(content)
        fresh.publish()


def test_a_picture_of_the_same_kind_is_replaced(tmp_path: Path) -> None:
    path, drawn = tmp_path / "p.png", png(png_text("size plot")["Software"])
    replaced(path, drawn)
    replaced(path, drawn + b" ")
    assert path.read_bytes() == drawn + b" "


@pytest.mark.parametrize("software", ["Matplotlib version 3.10", "vsim other plot", "GIMP"])
def test_other_people_s_pictures_are_left_alone(tmp_path: Path, software: str) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(png(software))
    with pytest.raises(InputError):
        replaced(path, png("vsim size plot"))
    assert path.read_bytes() == png(software)
