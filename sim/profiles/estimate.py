"""Estimate: the terms by which an engine that computes prompts first admits and retracts."""

from dataclasses import dataclass

from vsim.sim.profiles.profile import PrefillFirst
from vsim.sim.scenario.scenario import EngineSettings


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is kept for running requests; see `vsim.sim.engine.estimates`.

    Args:
        first_ratio: share of what they may still generate, at first and whenever nothing runs.
        least_ratio: and at least, however long nobody was retracted.
        decay: by how much it falls with a decode step.
        clip_tokens: what a request may generate counts as so many tokens at most.
        retract_steps: decode steps that a retraction makes room for.
        most_new_tokens: what each request asks for at most; 0: what it generates.
        ignore_eos: all that they may generate is kept, whatever the ratio.
    """

    first_ratio: float
    least_ratio: float
    decay: float
    clip_tokens: int
    retract_steps: int
    most_new_tokens: int = 0
    ignore_eos: bool = False


def estimate_of(rules: PrefillFirst | None, engine: EngineSettings) -> Estimate | None:
    """The terms under a server's settings, as `NewTokenRatioTracker.from_config` has them."""
    if rules is None or engine.batching == "static":
        return None
    first = min(rules.init_new_token_ratio.value * engine.schedule_conservativeness, 1.0)
    least = min(first * rules.min_new_token_ratio_factor.value, 1.0)
    return Estimate(
        first_ratio=first,
        least_ratio=least,
        decay=(first - least) / rules.new_token_ratio_decay_steps.value,
        clip_tokens=rules.clip_max_new_tokens.value,
        retract_steps=rules.retract_decode_steps.value,
        most_new_tokens=engine.max_new_tokens or 0,
        ignore_eos=engine.ignore_eos,
    )
