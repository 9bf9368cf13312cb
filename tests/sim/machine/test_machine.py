"""Machines: numbers have sources, tiers and links hold together, VMM calls follow the table."""

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from vsim.sim.inputs.yaml_input import Bytes, parse_yaml
from vsim.sim.machine.loading import catalogue_names, load_machine
from vsim.sim.machine.machine import Hop, Machine
from vsim.sim.machine.quantity import Quantity
from vsim.sim.machine.served import ServedAttention, ServedExperts
from vsim.sim.machine.vmm import VMM_CALLS, VmmRow, vmm_cost_ns
from vsim.traces.faults import InputError


@pytest.fixture(scope="module")
def measured() -> Machine:
    return load_machine("h200-measured")


def sourced(value: object) -> dict[str, object]:
    return {"value": value, "source": "assumption", "note": "for this test"}


def tier(name: str, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "capacity": sourced("1GiB"),
        "read": sourced("10GB/s"),
        "write": sourced("10GB/s"),
        "latency": sourced("1us"),
        "attend_in_place": kind != "nvme",
        "page_granularity": sourced("2MiB"),
    }


def link(source: str, target: str) -> dict[str, Any]:
    return {
        "source": source,
        "target": target,
        "bandwidth": sourced("2GB/s"),
        "reverse_bandwidth": sourced("1GB/s"),
        "latency": sourced("3us"),
    }


def small() -> dict[str, Any]:
    return {
        "name": "small",
        "description": "one GPU, for tests",
        "gpu": {
            "name": "G",
            "flops": {"bf16": sourced("100TFLOP/s")},
            "flops_efficiency": sourced(0.5),
            "hbm_efficiency": sourced(0.8),
            "memory_utilisation": sourced(0.9),
        },
        "tiers": [tier("hbm", "hbm"), tier("host", "host"), tier("nvme", "nvme")],
        "links": [link("host", "hbm"), link("nvme", "host")],
        "attend": {"exponent": sourced(None), "copy_weight": sourced(1.0)},
        "launch": {"step_overhead": sourced("1us")},
        "power": {"idle_w": sourced(10.0), "max_w": sourced(100.0)},
    }


def build(described: dict[str, Any]) -> Machine:
    return parse_yaml(yaml.safe_dump(described, sort_keys=False), "m.yaml", Machine)


def faults(described: dict[str, Any]) -> list[str]:
    with pytest.raises(InputError) as caught:
        build(described)
    return [f"{fault.place}: {fault.message}" for fault in caught.value.faults]


def changed(change: Any) -> dict[str, Any]:
    described = copy.deepcopy(small())
    change(described)
    return described


def test_the_catalogue_holds_the_machines_it_promises() -> None:
    promised = {"a10", "rtx4090", "a100-80g", "4xa100-nvlink", "h100", "h200", "2xh200-nvlink",
                "gh200", "b200", "h200-measured", "2xh200-measured", "l40s", "rtx-pro-6000", "b300",
                "gb200", "gb300"}  # fmt: skip
    assert promised <= set(catalogue_names())
    for name in catalogue_names():
        machine = load_machine(name)
        assert machine.name == name
        kinds = {tier.kind for tier in machine.tiers}
        assert {"hbm", "nvme", "network"} <= kinds
        assert kinds & {"host", "lpddr"}
        assert {row.kind for row in machine.vmm} >= {"hbm"}


# NVIDIA's datasheets: HBM in GB, bytes per second, dense bf16 FLOP per second, GPUs.
@pytest.mark.parametrize(
    ("name", "hbm_gib", "bandwidth", "bf16", "count"),
    [
        ("a10", 24, 600e9, 125e12, 1),
        ("rtx4090", 24, 1008e9, 165.2e12, 1),
        ("a100-80g", 80, 2.039e12, 312e12, 1),
        ("4xa100-nvlink", 80, 2.039e12, 312e12, 4),
        ("h100", 80, 3.35e12, 989e12, 1),
        ("h200", 141, 4.8e12, 989e12, 1),
        ("2xh200-nvlink", 141, 4.8e12, 989e12, 2),
        ("gh200", 96, 4.0e12, 989e12, 1),
        ("b200", 180, 7.7e12, 2250e12, 1),
    ],
)
def test_datasheet_figures_are_the_datasheet_s(
    name: str, hbm_gib: int, bandwidth: float, bf16: float, count: int
) -> None:
    machine = load_machine(name)
    assert machine.hbm.capacity.value == hbm_gib * 2**30
    assert machine.hbm.read.value == bandwidth
    assert machine.gpu.flops.bf16.value == bf16
    assert machine.gpu.count == count
    assert machine.hbm.capacity.source == machine.hbm.read.source == "datasheet"


def test_measured_figures_are_as_measured_and_say_when() -> None:
    machine = load_machine("2xh200-measured")
    assert machine.hbm.read.value == 4629e9
    (peer,) = (each for each in machine.links if each.source == "peer")
    assert (peer.bandwidth.value, peer.reverse_bandwidth.value) == (354e9, 397e9)
    one = load_machine("h200-measured")
    (host,) = (each for each in one.links if each.source == "host")
    assert (host.bandwidth.value, host.reverse_bandwidth.value) == (55.5e9, 55.3e9)
    assert [(group.name, group.bandwidth.value) for group in one.groups] == [("pcie", 102e9)]
    for quantity in (machine.hbm.read, peer.bandwidth, host.bandwidth, one.groups[0].bandwidth):
        assert quantity.source == "measurement"
        assert "2026-11-20" in quantity.note
        assert "driver 580" in quantity.note


def bare_numbers(part: object, place: str) -> list[str]:
    """Find numbers that stand neither in a Quantity with a note nor in a table row with one."""
    if isinstance(part, Quantity | VmmRow | ServedAttention | ServedExperts):
        return [] if part.note else [f"{place} has no note"]
    if isinstance(part, BaseModel):
        fields = type(part).model_fields
        return [bare for f in fields for bare in bare_numbers(getattr(part, f), f"{place}.{f}")]
    if isinstance(part, tuple):
        return [bare for item in part for bare in bare_numbers(item, place)]
    return [place] if isinstance(part, int | float) and not isinstance(part, bool) else []


@pytest.mark.parametrize("name", catalogue_names())
def test_every_number_of_the_catalogue_says_where_it_is_from(name: str) -> None:
    # The number of GPUs is what the machine's name says.
    assert bare_numbers(load_machine(name), "machine") == ["machine.gpu.count"]


def test_a_bare_number_is_refused_with_what_to_write() -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml("value: 80GiB\n", "q.yaml", Quantity[Bytes])
    assert "source: is missing" in str(caught.value)
    assert faults(changed(lambda m: m["tiers"][1].update(capacity="80GiB"))) == [
        "tiers.1.capacity: '80GiB' has no source; write it as {value: 80GiB, source: datasheet}"
        " (or measurement or assumption, with a note)"
    ]


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        (lambda m: m["tiers"].pop(0), "tiers", "none is of kind hbm"),
        (lambda m: m["tiers"].append(tier("hbm2", "hbm")), "tiers.3.kind", "of kind hbm already"),
        (lambda m: m["tiers"].append(tier("host", "cxl")), "tiers.3.name", "names an earlier tier"),
        (lambda m: m["tiers"].append(tier("p", "peer")), "tiers.3.kind", "needs a second GPU"),
        (lambda m: m["links"].pop(1), "tiers.2.name", "no links lead from 'nvme' to 'hbm'"),
        (
            lambda m: m["links"][1].update(source="nvmi"),
            "links.1.source",
            "no tier 'nvmi' (did you mean 'nvme'?)",
        ),
        (lambda m: m["links"][1].update(source="host"), "links.1.target", "the link's source too"),
        (lambda m: m["links"].append(link("hbm", "host")), "links.2.target", "have a link already"),
        (lambda m: m["links"][0].update(group="pcie"), "links.0.group", "there is no group 'pcie'"),
        (
            lambda m: m.update(groups=[{"name": "pcie", "bandwidth": sourced("1GB/s")}]),
            "groups.0.name",
            "it does nothing",
        ),
        (lambda m: m["gpu"].update(count=2), "gpu.count", "2 GPUs have no gpu_link"),
        (
            lambda m: m.update(gpu_link={"bandwidth": sourced("1GB/s"), "latency": sourced("1us")}),
            "gpu_link",
            "a single GPU has no link to others",
        ),
        (
            lambda m: m["power"].update(max_w=sourced(5.0)),
            "power.max_w.value",
            "is below idle_w, 10",
        ),
        (
            lambda m: m["tiers"][0]["capacity"].update(note=""),
            "tiers.0.capacity",
            "source assumption has no note; write `note: …` that says why",
        ),
        (
            lambda m: m["tiers"][0]["capacity"].update(source="rumour"),
            "tiers.0.capacity.source",
            "'rumour' is not known here",
        ),
        (
            lambda m: m["tiers"][0]["capacity"].update(value="80GB/s"),
            "tiers.0.capacity.value",
            "'80GB/s' is not a size",
        ),
        (
            lambda m: m["gpu"]["flops"].update(bf17=sourced("1TFLOP/s")),
            "gpu.flops.bf17",
            "unknown key 'bf17' (did you mean 'bf16'?)",
        ),
        (
            lambda m: m["gpu"].update(flops_efficiency=sourced(1.5)),
            "gpu.flops_efficiency.value",
            "1.5 is out of range; write a number of at most 1",
        ),
    ],
)
def test_a_machine_that_does_not_hold_together_is_refused(
    change: Any, place: str, words: str
) -> None:
    found = faults(changed(change))
    assert any(fault.startswith(f"{place}: ") and words in fault for fault in found), found


def test_the_path_to_hbm_takes_the_fewest_links_and_knows_their_direction() -> None:
    machine = build(small())
    assert machine.find_path("nvme", "hbm") == (Hop(1, forward=True), Hop(0, forward=True))
    assert machine.find_path("hbm", "nvme") == (Hop(0, forward=False), Hop(1, forward=False))
    assert machine.find_path("hbm", "hbm") == ()
    direct = build(changed(lambda m: m["links"].append(link("hbm", "nvme"))))
    assert direct.find_path("nvme", "hbm") == (Hop(2, forward=False),)


def test_an_unknown_machine_suggests_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        load_machine("h20")
    assert "machine: 'h20' is not in the catalogue (did you mean 'h200'?)" in str(caught.value)


def test_a_user_s_own_file_loads_by_path(tmp_path: Any) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(small()))
    assert load_machine(path) == build(small())


def test_weights_without_a_rate_of_their_own_compute_in_bf16() -> None:
    hopper, ampere = load_machine("h100").gpu.flops, load_machine("a100-80g").gpu.flops
    assert hopper.for_weights("fp8").value == 1979e12
    assert ampere.for_weights("fp8").value == 312e12
    assert ampere.for_weights("int8").value == 624e12
    assert hopper.for_weights("int4").value == 989e12
    blackwell = load_machine("b200").gpu.flops
    assert blackwell.for_weights("nvfp4").value == 9000e12
    assert hopper.for_weights("nvfp4").value == 989e12
    # What mxfp4 weights are multiplied by is bf16.
    assert blackwell.for_weights("mxfp4").value == 2250e12


def test_vmm_calls_cost_what_was_measured() -> None:
    rows = load_machine("h200-measured").vmm
    alone = [vmm_cost_ns(rows, "hbm", call, 2 * 2**20) for call in VMM_CALLS]
    assert alone == [700, 8_200, 600, 23_000, 15_000, 11_000]
    large = [vmm_cost_ns(rows, "hbm", call, 2 * 2**30) for call in VMM_CALLS]
    assert large == [700, 218_000, 1_100, 626_000, 37_000, 674_000]
    # 512 chunks under one call, each as dear as measured; the range is reserved once.
    together = [vmm_cost_ns(rows, "hbm", call, 2 * 2**20, 512) for call in VMM_CALLS]
    assert together == pytest.approx([700, *(512 * ns for ns in (10e3, 1e3, 53e3, 16e3, 13e3))])
    assert vmm_cost_ns(rows, "host", "create", 2 * 2**30) == 381_000_000


def test_vmm_costs_between_the_table_s_rows_follow_a_power_law() -> None:
    rows = load_machine("h200-measured").vmm
    # 64 MiB is halfway between 2 MiB and 2 GiB in logarithms: the geometric mean.
    assert vmm_cost_ns(rows, "hbm", "create", 64 * 2**20) == pytest.approx(
        (8_200 * 218_000) ** 0.5, rel=1e-12
    )
    assert vmm_cost_ns(rows, "hbm", "create", 4 * 2**30) == 2 * 218_000
    with pytest.raises(KeyError):
        vmm_cost_ns(rows, "cxl", "create", 2 * 2**20)


def test_one_odd_row_of_a_chunk_alone_leaves_several_chunks_as_measured() -> None:
    def row(chunk: str, chunks: int, set_access: str) -> VmmRow:
        times = dict.fromkeys(("reserve", "create", "map", "unmap", "release"), "1us")
        about = {"kind": "peer", "source": "measurement", "note": "a test"}
        given = {"chunk": chunk, "chunks": chunks, "set_access": set_access}
        return VmmRow.model_validate(times | about | given)

    rows = [row("2MiB", 1, "949us"), row("16MiB", 1, "34us"), row("2MiB", 64, "33us"),
            row("16MiB", 64, "36us")]  # fmt: skip
    cost = vmm_cost_ns(rows, "peer", "set_access", 4 * 2**20, 64)
    assert 64 * 33_000 < cost < 64 * 36_000
    # beyond a number's sizes it grows as a chunk alone does: by the bytes above the largest
    large = vmm_cost_ns(rows, "peer", "set_access", 64 * 2**20, 64)
    assert large == pytest.approx(64 * 36_000 * 4)


def test_where_bytes_cost_several_large_chunks_cost_as_one_of_their_bytes() -> None:
    def row(chunk: str, chunks: int, create: str) -> VmmRow:
        times = dict.fromkeys(("reserve", "map", "set_access", "unmap", "release"), "1us")
        about = {"kind": "host", "source": "measurement", "note": "a test"}
        return VmmRow.model_validate(
            {**times, **about, "chunk": chunk, "chunks": chunks, "create": create}
        )

    # 0.1 ms a MiB of small chunks, 0.2 of large ones; 16 of 8 MiB are as dear as one of 128 MiB
    rows = [row("8MiB", 1, "800us"), row("128MiB", 1, "25600us"), row("2GiB", 1, "409600us"),
            row("8MiB", 16, "1600us")]  # fmt: skip
    together = vmm_cost_ns(rows, "host", "create", 2**30)
    assert vmm_cost_ns(rows, "host", "create", 64 * 2**20, 16) == pytest.approx(together)


@given(
    kind=st.sampled_from(["hbm", "host"]),
    call=st.sampled_from(VMM_CALLS),
    granules=st.integers(1, 2048),
    chunks=st.integers(1, 2000),
)
def test_a_larger_chunk_or_one_more_never_costs_less(
    measured: Machine, kind: str, call: Any, granules: int, chunks: int
) -> None:
    rows = measured.vmm
    size = 2 * 2**20
    cost = vmm_cost_ns(rows, kind, call, granules * size, chunks)
    more = vmm_cost_ns(rows, kind, call, granules * size, chunks + 1)
    larger = vmm_cost_ns(rows, kind, call, (granules + 1) * size, chunks)
    assert cost <= more * (1 + 1e-9)
    assert cost <= larger * (1 + 1e-9)
