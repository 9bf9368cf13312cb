"""The seed acts on exactly those placements that the rules of a run of attention say it does."""

from pathlib import Path

import pytest
from tests.sim.attention_run.small import run, trace

from vsim.sim.attention_run.placing import placements
from vsim.sim.attention_run.rules import DRAWING_PLACEMENTS
from vsim.traces.faults import InputError


def test_the_drawing_placements_exist() -> None:
    assert set(placements()) > DRAWING_PLACEMENTS


@pytest.mark.parametrize("name", sorted(set(placements()) - DRAWING_PLACEMENTS))
def test_a_placement_that_draws_nothing_is_the_same_for_every_seed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vsim.sim.attention_run.run as module

    found = []
    for seed in (1, 2):
        placed = module.place
        monkeypatch.setattr(
            module, "place", lambda case, policy, _, seed=seed, placed=placed: placed(
                case, policy, seed)
        )  # fmt: skip
        result = run(tmp_path, trace(120, 24), trace(100, 24, seed=1), placement=name)
        monkeypatch.undo()
        found.append((result.summary["simulated_s"], result.summary["placement"]["moved_bytes"]))
    assert found[0] == found[1]
    with pytest.raises(InputError, match="seed: does nothing"):
        run(tmp_path, trace(120, 24), placement=name, seed=1)


# interval-annealing and lp-rounding draw too, but on so small a case all draws end at one schedule
@pytest.mark.parametrize("name", sorted(DRAWING_PLACEMENTS - {"interval-annealing", "lp-rounding"}))
def test_on_a_placement_that_draws_the_seed_acts(name: str, tmp_path: Path) -> None:
    traces = [trace(300, 60, seed=each) for each in range(3)]
    selection = {"selection": {"kind": "top-share", "sparsity": 0.6}}
    found = {
        run(tmp_path, *traces, placement=name, seed=seed, workload=selection, hbm_pages=40)
        .summary["placement"]["decode_s"]
        for seed in (1, 2, 3)
    }  # fmt: skip
    assert len(found) > 1
