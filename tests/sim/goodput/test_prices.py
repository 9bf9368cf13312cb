"""Price files: the one that comes along, and what is wrong with others."""

from pathlib import Path

import pytest

from vsim.sim.goodput.prices import check_prices, load_prices
from vsim.sim.machine.loading import catalogue_names, load_machine
from vsim.traces.faults import InputError

GOOD = """\
date: 2026-01-31
gpus:
  - {name: NVIDIA H100 SXM, usd_per_hour: 3, source: "a list"}
memories:
  - {kind: host, usd_per_gb_month: 0.3, source: "a list"}
"""


def faults(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        load_prices(str(path))
    return [str(fault).removeprefix(str(path)) for fault in raised.value.faults]


@pytest.mark.parametrize("name", catalogue_names())
def test_the_file_that_comes_along_has_a_price_of_all_in_the_catalogue(name: str) -> None:
    prices, file = load_prices(None)
    machine = load_machine(name)
    check_prices(prices, file, machine, tuple(tier.name for tier in machine.tiers))


def test_each_of_its_prices_says_where_it_is_from() -> None:
    prices, _ = load_prices(None)
    for each in (*prices.gpus, *prices.memories):
        assert len(each.source) > 20
        assert "assumption: " in each.source or "." in each.source.split()[-1] or "(" in each.source


def test_a_file_s_own_prices_are_taken(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(GOOD)
    prices, file = load_prices(str(tmp_path / "p.yaml"))
    assert prices.date.isoformat() == "2026-01-31"
    assert file == str(tmp_path / "p.yaml")
    gpu, host = prices.gpu("NVIDIA H100 SXM"), prices.memory("host")
    assert gpu is not None
    assert host is not None
    assert (gpu.usd_per_hour, host.usd_per_gb_month) == (3.0, 0.3)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("date: 2026-01-31\n", "", ":1: date: is missing"),
        ("2026-01-31", "May", ":1:7: date: 'May' is no day; write it like 2026-05-31"),
        (', source: "a list"}\nmem', "}\nmem", "gpus.0.source: is missing"),
        ("usd_per_hour: 3", "usd_per_hour: 0", "gpus.0.usd_per_hour"),
        ("usd_per_hour: 3", "usd_per_hour: cheap", "gpus.0.usd_per_hour"),
        ("kind: host", "kind: tape", "memories.0.kind"),
        ("usd_per_gb_month", "usd_per_gb", "memories.0"),
        ("memories:\n", "memories:\n  - {kind: host, usd_per_gb_month: 1, source: x}\n",
         "memories.1.kind: 'host' has a price already"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert any(words in fault for fault in faults(tmp_path, GOOD.replace(old, new)))


def test_a_price_that_a_run_needs_and_nobody_gives_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(GOOD)
    prices, _ = load_prices(str(tmp_path / "p.yaml"))
    with pytest.raises(InputError) as raised:
        check_prices(prices, "p.yaml", load_machine("h200"), ("hbm", "host", "nvme"))
    assert [str(fault).partition("; ")[0] for fault in raised.value.faults] == [
        "p.yaml: gpus: has no price of 'NVIDIA H200 SXM'",
        "p.yaml: memories: has no price of nvme",
    ]
