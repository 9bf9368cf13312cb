"""`write_picture`: a figure of this project's reports as a PNG of few colours."""

import importlib
import io
from pathlib import Path
from typing import Any, Final

_BLENDS: Final = 60  # colours of a picture, with those along edges


def write_picture(figure: Any, path: Path, dpi: int) -> None:
    """Write it without the date and version that would change it from run to run.

    Of few colours: a third of the bytes, and no eye tells. An octree chooses them, which keeps
    rare ones as bright as they are; a median cut blends markers with the grey along edges.

    Args:
        figure: of matplotlib, whose pictures rest on Pillow.
        path: where it goes.
        dpi: dots an inch.
    """
    images: Any = importlib.import_module("PIL.Image")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=dpi, metadata={"Software": None})
    image = images.open(drawn).convert("RGB")
    image = image.quantize(_BLENDS, method=images.Quantize.FASTOCTREE)
    image.save(path, optimize=True)
