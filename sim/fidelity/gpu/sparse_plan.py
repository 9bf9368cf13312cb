"""Plans of sparse decode: a policy's schedule as operations that a GPU carries out step by step.

What a schedule has in HBM from step f on is copied there beside step f - 1, and read there from f
on; a page that step f - 1 writes is there already. Pages are immutable and the slower tier keeps
one of each, so that dropping a copy is free and a page on its way is read where it was. A page that
was just read in place is copied like any other: a kernel that attends does not write down what it
streams. A new page is written through beside the step that writes it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import vsim.traces
from vsim.sim.fidelity.gpu.cases import SparseCase
from vsim.traces.arrow_arrays import elements, integers, listed, lists
from vsim.traces.arrow_io import Provenance, read_table, write_table
from vsim.traces.faults import refuse
from vsim.traces.schema import schema_of
from vsim.traces.writing import Name

Int64s = NDArray[np.int64]

ATTEND_HBM, ATTEND_SLOW, COPY_IN, WRITE_THROUGH, EVICT = range(5)
_KINDS: Final = ("attend", "attend", "copy", "copy", "evict")
_OF_PLANS: Final = ("gpu", "plans")


@dataclass(frozen=True, slots=True, eq=False)
class SparsePlan:
    """What each of T steps reads and moves; pages are the recording's, before replicas.

    Args:
        columns: int64[n_pages], the request (a layer and KV head) that each page belongs to.
        start: int64, pages in HBM before the first step.
        pages: by kind and step, int64 arrays: `pages[kind][step]`.
    """

    columns: Int64s
    start: Int64s
    pages: tuple[tuple[Int64s, ...], ...]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.pages[0])

    @property
    def n_pages(self) -> int:
        """Pages that exist at the end."""
        return len(self.columns)

    @property
    def requests(self) -> int:
        """Layers times KV heads."""
        return int(self.columns.max()) + 1

    def counts(self, kind: int) -> Int64s:
        """int64[T]: pages of a kind, step by step."""
        return np.array([len(each) for each in self.pages[kind]], np.int64)

    @property
    def slots(self) -> int:
        """Pages that HBM holds at most at once, those on their way in included."""
        held = len(self.start)
        most = held
        for step in range(self.steps):
            held += len(self.pages[COPY_IN][step]) + len(self.pages[WRITE_THROUGH][step])
            most = max(most, held)
            held -= len(self.pages[EVICT][step])
        return most


def plan_path(case: SparseCase, folder: Path) -> Path:
    """Where a case's plan lies in a folder of plans."""
    kept = f"{case.recording}-{case.policy}-{case.slow}-{case.hbm_share:g}-{case.sparsity:g}"
    return folder / f"{kept}-{case.steps}.arrow"


def plans_folder() -> Path | None:
    """The repository's plans; None in an installed package."""
    for root in vsim.traces.__path__:
        folder = Path(root).joinpath("recorded", *_OF_PLANS)
        if folder.is_dir():
            return folder
    return None


def write_plan(plan: SparsePlan, case: SparseCase, path: Name) -> None:
    """Write a plan in the operations schema.

    Step 0 is what HBM holds at the start, a copy of 0 bytes, and step t + 1 is decode step t. A
    row's `stream` is 0 for what the attention stream does and 1 for copies.

    Raises:
        InputError: the file cannot be written there.
    """
    slow = case.slow
    source = ("hbm", slow, slow, "hbm", "hbm")
    target = (None, None, "hbm", slow, None)
    rows: list[dict[str, Any]] = []

    def add(step: int, kind: int, pages: Int64s, size_bytes: int) -> None:
        if len(pages):
            rows.append(
                {
                    "id": len(rows),
                    "step": step,
                    "kind": _KINDS[kind],
                    "source_tier": source[kind],
                    "target_tier": target[kind],
                    "bytes": size_bytes * len(pages),
                    "stream": 0 if kind in (ATTEND_HBM, ATTEND_SLOW) else 1,
                    "submit_ns": 0,
                    "start_ns": 0,
                    "end_ns": 0,
                    "predicted": True,
                }
            )
            listing.append(pages)

    listing: list[Int64s] = []
    add(0, COPY_IN, plan.start, 0)
    size = case.heads.page_bytes * case.replicas
    for step in range(plan.steps):
        for kind in range(len(_KINDS)):
            add(step + 1, kind, plan.pages[kind][step], 0 if kind == EVICT else size)
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in listing])])
    nothing = np.zeros(len(rows) + 1, np.int64)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    columns["pages"] = listed(offsets, np.concatenate(listing))
    columns["depends_on"] = listed(nothing, np.empty(0, np.int64))
    for name in ("kind", "source_tier", "target_tier"):
        columns[name] = pa.array(columns[name], pa.string()).dictionary_encode()
    schema = schema_of("operations")
    table = pa.table([pa.array(columns[f.name]).cast(f.type) for f in schema], schema=schema)
    widths = np.bincount(plan.columns).tolist()
    about = Provenance(
        f"placement of {case.recording} by {case.policy}",
        "Apache-2.0",
        extra={"column_pages": ",".join(map(str, widths)), "steps": str(plan.steps)},
    )
    write_table(table, path, "operations", about, zstd_level=22)


def read_plan(path: Path) -> SparsePlan:
    """Read what `write_plan` wrote.

    Raises:
        InputError: the file is missing, damaged or no plan.
    """
    table = read_table(path, "operations")
    found = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    widths, steps = found.get("vsim.column_pages", ""), found.get("vsim.steps", "")
    if not widths or not steps.isdigit():
        refuse(str(path), "is no plan of sparse decode; make the plans again")
    width = np.array(widths.split(","), np.int64)
    offsets, flat = lists(table.column("pages"))
    pages = elements(flat).astype(np.int64)
    if len(pages) and pages.max() >= width.sum():
        refuse(str(path), f"holds page {pages.max()} of {width.sum()}", place="column pages")
    none = np.empty(0, np.int64)
    by_kind = [[none] * int(steps) for _ in _KINDS]
    start = none
    step = integers(table.column("step"))
    kinds, sources = table.column("kind").to_pylist(), table.column("source_tier").to_pylist()
    for row, (kind, source) in enumerate(zip(kinds, sources, strict=True)):
        mine = pages[offsets[row] : offsets[row + 1]]
        if step[row] == 0:
            start = mine
            continue
        names = {"evict": EVICT, "attend": ATTEND_SLOW, "copy": COPY_IN}
        of = names.get(str(kind), -1)
        if source == "hbm" and of in (ATTEND_SLOW, COPY_IN):
            of = ATTEND_HBM if kind == "attend" else WRITE_THROUGH
        if of < 0 or step[row] > int(steps):
            refuse(str(path), f"holds {kind} at step {step[row]}", place=f"row {row}")
        by_kind[of][int(step[row]) - 1] = mine
    columns = np.repeat(np.arange(len(width)), width)
    return SparsePlan(columns, start, tuple(tuple(each) for each in by_kind))
