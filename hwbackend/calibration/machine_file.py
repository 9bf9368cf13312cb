"""A machine file of what was measured; the rest is the catalogue's machine of the same GPU."""

import copy
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

import vsim.sim.machine
from vsim.hwbackend.calibration.figures import Figure
from vsim.hwbackend.calibration.fit import SLOW_PLACES, CopyFit, Fitted, VmmFit
from vsim.traces.faults import refuse

_Part = dict[str, Any]
BASES: Final = (
    ("H200", 1, "h200-measured"),
    ("H200", 2, "2xh200-measured"),
    ("GH200", 1, "gh200"),
    ("H100", 1, "h100"),
    ("A100", 1, "a100-80g"),
    ("A10", 1, "a10"),
    ("L40S", 1, "l40s"),
    ("B200", 1, "b200"),
    ("B300", 1, "b300"),
    ("RTX 4090", 1, "rtx4090"),
)
"""A word of the GPU's name, how many there are, and the catalogue's machine to start from."""
_PEER_LIKE: Final = "2xh200-measured"


def base_of(fitted: Fitted) -> str:
    """The catalogue's machine that is nearest: of the same GPU, with as many of them or one.

    Raises:
        InputError: the catalogue has no machine of this GPU.
    """
    gpus = fitted.facts.gpus
    name = gpus[0].name
    words = re.split(r"[^A-Za-z0-9]+", name)
    for count in (len(gpus), 1):
        for word, has, base in BASES:
            if has == count and (word in words or (" " in word and word in name)):
                return base
    refuse("samples", f"are of '{name}', of which the catalogue has no machine; add one to it")


def machine_text(fitted: Fitted, name: str, table_file: str | None, table_note: str) -> str:
    """Write a machine file.

    Args:
        fitted: what was measured.
        name: the machine's name.
        table_file: the file of kernel tables beside it; None where no kernel was timed.
        table_note: when and on what they were measured.
    """
    base = base_of(fitted)
    machine = _catalogue(base)
    machine["name"] = name
    machine["description"] = (
        f"{len(fitted.facts.gpus)} × {fitted.facts.gpus[0].name}, measured by `vsim calibrate"
        f" --gpu` on {fitted.facts.date}. What was not measured is that of the catalogue's {base},"
        " with its own source."
    )
    machine = _with_peer(machine, fitted)
    _gpu(machine, fitted)
    _tiers(machine, fitted)
    _links(machine, fitted)
    _vmm(machine, fitted)
    _clearing(machine, fitted)
    _copies(machine, fitted)
    _attend(machine, fitted)
    _launch_and_power(machine, fitted)
    kept = machine.pop("kernels", [])
    own = []
    if table_file is not None:
        own = [{"stack": "vsim", "file": table_file, "source": "measurement", "note": table_note}]
    machine["kernels"] = own + kept
    order = ("name", "description", "gpu", "tiers", "links", "groups", "gpu_link", "vmm",
             "clearing", "copies", "attend", "launch", "kernels", "power")  # fmt: skip
    text: str = yaml.safe_dump(
        {key: machine[key] for key in order if key in machine},
        sort_keys=False, default_flow_style=None, width=10_000, allow_unicode=True,
    )  # fmt: skip
    return text


def _catalogue(name: str) -> _Part:
    path = Path(vsim.sim.machine.__file__).parent / "catalogue" / f"{name}.yaml"
    found: _Part = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def _with_peer(machine: _Part, fitted: Fitted) -> _Part:
    """Add a second GPU where there are two and the catalogue's machine has one, and the reverse."""
    count = len(fitted.facts.gpus)
    peers = [tier for tier in machine["tiers"] if tier["kind"] == "peer"]
    machine["gpu"]["count"] = count
    if count > 1 and not peers:
        like = _catalogue(_PEER_LIKE)
        machine["tiers"].insert(1, _as_assumed(_one(like["tiers"], kind="peer")))
        machine["links"].insert(0, _as_assumed(_one(like["links"], source="peer")))
        machine.setdefault("gpu_link", _as_assumed(like["gpu_link"]))
    if count == 1:
        lost = {tier["name"] for tier in peers}
        machine["tiers"] = [tier for tier in machine["tiers"] if tier["name"] not in lost]
        machine["links"] = [
            link for link in machine["links"] if not {link["source"], link["target"]} & lost
        ]
        machine.pop("gpu_link", None)
    return machine


def _as_assumed(part: _Part) -> _Part:
    """A part of another machine, whose figures are assumptions here."""
    made = copy.deepcopy(part)
    for value in made.values():
        if isinstance(value, dict) and "source" in value:
            value["note"] = f"as the catalogue's {_PEER_LIKE}, {value['source']} there"
            value["source"] = "assumption"
    return made


def _one(parts: list[_Part], **wanted: str) -> _Part:
    (found,) = (p for p in parts if all(p.get(key) == value for key, value in wanted.items()))
    return found


def _quantity(fitted: Fitted, figure: Figure, value: object, more: str = "") -> _Part:
    return {
        "value": value,
        "source": "measurement",
        "note": f"{fitted.facts.note}; {figure.note}{more}",
    }


def _rate(value: float) -> str:
    return f"{value / 1e9:.5g}GB/s"


def _time(value_us: float) -> str:
    return f"{max(round(value_us * 1e3), 0)}ns"


def _gpu(machine: _Part, fitted: Fitted) -> None:
    gpu, figures = machine["gpu"], fitted.figures
    if "attention read" in figures and "hbm read" in figures:
        figure, ceiling = figures["attention read"], figures["hbm read"].value
        share = min(figure.value / ceiling, 1.0)
        more = f"; {figure.value / 1e9:.0f} of {ceiling / 1e9:.0f} GB/s"
        gpu["hbm_efficiency"] = _quantity(fitted, figure, round(share, 3), more)
    if "product flops" in figures:
        figure = figures["product flops"]
        peak = _flops(gpu["flops"]["bf16"]["value"])
        more = f"; {figure.value / 1e12:.0f} of {peak / 1e12:.0f} TFLOP/s"
        share = min(figure.value / peak, 1.0)
        gpu["flops_efficiency"] = _quantity(fitted, figure, round(share, 3), more)


def _flops(written: str) -> float:
    return float(written.removesuffix("TFLOP/s")) * 1e12


def _tiers(machine: _Part, fitted: Fitted) -> None:
    figures = fitted.figures
    hbm = _one(machine["tiers"], kind="hbm")
    for field, shown in (("read", _rate), ("write", _rate), ("latency", _time)):
        if (figure := figures.get(f"hbm {field}")) is not None:
            hbm[field] = _quantity(fitted, figure, shown(figure.value))
    for tier in machine["tiers"]:
        if tier["kind"] == "peer":
            for field in ("read", "write", "latency"):
                tier[field] = {
                    "value": hbm[field]["value"],
                    "source": "assumption",
                    "note": "as hbm: the memory itself; the link adds its own",
                }
        if tier["kind"] == "nvme":
            _disk(tier, fitted)
        if tier["kind"] == "host" and "host latency" in figures:
            figure = figures["host latency"]
            more = "; a zero-copy load across the link"
            tier["latency"] = _quantity(fitted, figure, _time(figure.value), more)


def _disk(tier: _Part, fitted: Fitted) -> None:
    """What a disk gives and takes, on its way through pinned buffers, and what comes once."""
    for field, route in (("read", "nvme-hbm"), ("write", "hbm-nvme")):
        if (figure := fitted.figures.get(f"{route} copy")) is not None:
            tier[field] = _quantity(fitted, figure, _rate(figure.value), "; past the page cache")
    if (made := fitted.copies.get(("nvme-hbm", "engine"))) is not None:
        tier["latency"] = _fitted_value(
            _time(made.first_us + made.each_us), f"{fitted.facts.note}; {_copy_note(made)}"
        )


def _links(machine: _Part, fitted: Fitted) -> None:
    """Links between HBM and a slow place. A host's link is the sum over the GPUs."""
    names = {tier["kind"]: tier["name"] for tier in machine["tiers"]}
    for place in SLOW_PLACES:
        if place not in names or "hbm" not in names:
            continue
        link = next(
            (each for each in machine["links"]
             if {each["source"], each["target"]} == {names[place], names["hbm"]}), None,
        )  # fmt: skip
        if link is None:
            continue
        forward = link["source"] == names[place]
        count = machine["gpu"]["count"] if place == "host" else 1
        for field, route in (
            ("bandwidth" if forward else "reverse_bandwidth", f"{place}-hbm"),
            ("reverse_bandwidth" if forward else "bandwidth", f"hbm-{place}"),
        ):
            if (figure := fitted.figures.get(f"{route} copy")) is not None:
                link[field] = _times(fitted, figure, count)
        if (made := fitted.copies.get((f"{place}-hbm", "engine"))) is not None:
            link["latency"] = {
                "value": _time(made.first_us + made.each_us),
                "source": "measurement",
                "note": f"{fitted.facts.note}; {_copy_note(made)}",
            }
        both = fitted.figures.get(f"{place}-hbm both")
        group = link.get("group")
        if both is not None and group is not None:
            _one(machine["groups"], name=group)["bandwidth"] = _times(fitted, both, count)


def _times(fitted: Fitted, figure: Figure, count: int) -> _Part:
    """A figure of one GPU, for all of them: each has a link of its own."""
    if count == 1:
        return _quantity(fitted, figure, _rate(figure.value))
    return {
        "value": _rate(count * figure.value),
        "source": "assumption",
        "note": f"{count} GPUs with a root each, one of which was measured: {fitted.facts.note}; "
        f"{figure.value / 1e9:.1f} GB/s, {figure.note}",
    }


def _copy_note(made: CopyFit) -> str:
    return (
        f"fitted to {made.points} sizes and numbers of copies, {made.samples} samples,"
        f" {made.worst:.0%} at worst"
    )


def _vmm(machine: _Part, fitted: Fitted) -> None:
    """Replace the rows of every place that was measured with one chunk at least."""
    measured = {place for place, _, chunks in fitted.vmm if chunks == 1}
    rows = [row for row in machine.get("vmm", []) if row["kind"] not in measured]
    for (place, chunk, chunks), made in sorted(fitted.vmm.items(), key=_vmm_order):
        if place in measured and (place, chunk, 1) in fitted.vmm:
            rows.append(_vmm_row(fitted, place, chunk, chunks, made))
    if rows:
        machine["vmm"] = rows


def _vmm_order(item: tuple[tuple[str, int, int], VmmFit]) -> tuple[int, int, int]:
    place, chunk, chunks = item[0]
    return ("hbm", *SLOW_PLACES).index(place), chunks, chunk


def _vmm_row(fitted: Fitted, place: str, chunk: int, chunks: int, made: VmmFit) -> _Part:
    size = f"{chunk >> 30}GiB" if chunk >= 1 << 30 else f"{chunk >> 20}MiB"
    note = f"{fitted.facts.note}, called from Python; {made.samples} samples"
    note += f", spread {made.spread:.0%}"
    row: _Part = {"kind": place, "chunk": size, "chunks": chunks, "source": "measurement"}
    row |= {"note": note}
    return row | {call: _time(us) for call, us in made.us.items()}


def _clearing(machine: _Part, fitted: Fitted) -> None:
    made = fitted.clearing
    if made is None:
        machine.pop("clearing", None)
        return
    machine["clearing"] = {
        "bandwidth": _rate(made.bytes_per_s),
        "first": _time(made.first_us),
        "turn": _time(made.turn_us),
        "source": "measurement",
        "note": f"{fitted.facts.note}; fitted to {made.points} sizes, {made.samples} samples,"
        f" {made.worst:.0%} at worst",
    }


def _copies(machine: _Part, fitted: Fitted) -> None:
    rows: list[_Part] = []
    for (route, way), made in sorted(fitted.copies.items()):
        origin, target = route.split("-")
        cost = fitted.hbm_costs.get(route) if way == "engine" else None
        row: _Part = {
            "origin": origin, "target": target, "way": way, "bandwidth": _rate(made.bytes_per_s),
            "first": _time(made.first_us), "each": _time(made.each_us),
        }  # fmt: skip
        if way == "engine":  # a kernel takes a few ns a piece
            row["pieces"] = [
                {"size": f"{size >> 10}KiB", "count": count, "each": _time(us)}
                for (size, count), us in sorted(made.pieces_us.items())
            ]
        if cost is not None:
            row["hbm_cost"] = round(cost, 2)
            row["weight"] = round(fitted.weights.get(route, 1.0), 2)
        if way == "engine" and route in fitted.beside_steps:
            row["beside_step"] = round(fitted.beside_steps[route], 3)
        note = f"{fitted.facts.note}; {_copy_note(made)}"
        rows.append({**row, "source": "measurement", "note": note})
    if rows:
        machine["copies"] = rows


def _attend(machine: _Part, fitted: Fitted) -> None:
    attend = machine["attend"]
    if "copy weight" in fitted.figures:
        figure = fitted.figures["copy weight"]
        attend["copy_weight"] = _quantity(fitted, figure, round(figure.value, 3))
    if "hbm weight" in fitted.figures:
        figure = fitted.figures["hbm weight"]
        attend["hbm_weight"] = _quantity(fitted, figure, round(figure.value, 2))
    if not fitted.attends:
        return
    chosen = fitted.attends[0]
    forms = chosen.fitted
    note = (
        f"{fitted.facts.note}; form '{chosen.form}', shares left out of the fit are met within"
        f" {chosen.rms:.1%} rms, {chosen.worst:.1%} at worst"
    )
    exponent = next(iter(forms.values())).exponent
    attend["exponent"] = {
        "value": None if math.isinf(exponent) else round(exponent, 2),
        "source": "measurement",
        "note": note,
    }
    attend["in_place"] = [
        {
            "kind": place,
            "read": _fitted_value(_rate(form.bytes_per_s), note),
            "waits": _fitted_value(round(form.slow_waits, 4), note),
            "hbm_waits": _fitted_value(round(form.hbm_waits, 4), note),
        }
        for place, form in forms.items()
    ]


def _fitted_value(value: object, note: str) -> _Part:
    return {"value": value, "source": "measurement", "note": note}


def _launch_and_power(machine: _Part, fitted: Fitted) -> None:
    figures = fitted.figures
    for field in ("kernel", "graph", "graph_kernel", "event"):
        if (figure := figures.get(f"launch {field.replace('_', ' ')}")) is not None:
            machine["launch"][field] = _quantity(fitted, figure, _time(figure.value))
    for load in ("idle", "attention", "products"):
        if (figure := figures.get(f"power {load}")) is not None:
            machine["power"][f"{load}_w"] = _quantity(fitted, figure, round(figure.value, 1))
    limit = fitted.facts.gpus[0].power_limit_w
    if limit is not None:
        machine["power"]["max_w"] = {
            "value": limit,
            "source": "measurement",
            "note": f"{fitted.facts.note}; the board's limit, as NVML says it",
        }


def scalars(machine: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every quantity of a machine as plain values, by its path."""
    for key, value in machine.items():
        if isinstance(value, Mapping) and "value" in value and "source" in value:
            yield key, value["value"]
        elif isinstance(value, Mapping):
            yield from ((f"{key}.{path}", found) for path, found in scalars(value))
        elif key in ("tiers", "links", "groups"):
            for part in value:
                name = part.get("name") or f"{part['source']}-{part['target']}"
                yield from ((f"{key}.{name}.{path}", found) for path, found in scalars(part))
