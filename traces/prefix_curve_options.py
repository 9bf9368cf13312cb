"""What `vsim trace info` is asked of curves, read and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsim.traces.faults import refuse

if TYPE_CHECKING:
    from vsim.traces.prefix_curves import PrefixCurves
    from vsim.traces.requests import Requests


@dataclass(frozen=True, slots=True)
class CurveOptions:
    """Options as read.

    Args:
        by_tenant: a curve for each tenant.
        tier_blocks: sizes of tiers, from the top.
        sample: the share of conversations.
        windows_s: of working sets.
        given: options that were given, by name.
    """

    by_tenant: bool
    tier_blocks: tuple[int, ...]
    sample: float | None
    windows_s: tuple[float, ...]
    given: tuple[str, ...]

    def taken_from(self, requests: "Requests") -> "PrefixCurves | None":
        """Take what was asked for; None where that is nothing."""
        if not self.given:
            return None
        # compiled code takes a while to load
        from vsim.traces.prefix_curves import prefix_curves

        if self.by_tenant and not any(requests.tenant_names):
            refuse("--by", "can't be tenant here: the trace names none; leave it out")
        return prefix_curves(
            requests,
            by_tenant=self.by_tenant,
            tier_blocks=self.tier_blocks,
            sample=self.sample,
            windows_s=self.windows_s,
        )


def curve_options(
    sizes: Sequence[int], *, mrc: bool, by: str | None, sample: float | None, working_set: str
) -> CurveOptions:
    """Check options.

    Raises:
        InputError: one of them is none, or can't act.
    """
    for option, value in (("--by", by), ("--sample", sample)):
        if value is not None and not mrc:
            refuse(option, "does nothing without --mrc; add it, or leave this out")
    if by not in (None, "tenant", "tier"):
        refuse("--by", f"'{by}' is unknown; write tenant or tier")
    if by == "tier" and not sizes:
        refuse("--by", "tier needs the tiers' sizes; add --cache-blocks 1000,5000")
    if sample is not None and not 0 < sample < 1:
        refuse("--sample", f"{sample:g} is no share; write one between 0 and 1, as 0.01")
    windows = []
    for part in filter(None, (part.strip() for part in working_set.split(","))):
        try:
            window = float(part)
        except ValueError:
            window = 0.0
        if not 0 < window <= 1e9:
            refuse("--working-set", f"'{part}' is no window; write seconds like 10,60")
        windows.append(window)
    named = (("--by", by), ("--sample", sample), ("--working-set", windows or None))
    given = tuple(option for option, value in named if value is not None)
    tiers = tuple(sizes) if by == "tier" else ()
    return CurveOptions(by == "tenant", tiers, sample, tuple(windows), given)
