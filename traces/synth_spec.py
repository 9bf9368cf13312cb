"""SynthSpec: what a generated workload is to look like."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic import model_validator as checked

from vsim.traces.limits import MOST_TENANTS

MOST_TOKENS: Final = 10**8
_MOST_POINTS: Final = 1000


def _read_points(value: Any) -> Any:
    """Turn `0.5:1020,0.99:4142`, a mapping or a single number into pairs."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return ((0.5, value),)
    if isinstance(value, str):
        pairs = []
        for part in value.split(","):
            quantile, colon, tokens = part.partition(":")
            if not colon:
                raise ValueError(f"{part.strip()!r} is no point; write it like 0.5:1020,0.99:4142")
            pairs.append((quantile.strip(), tokens.strip()))
        return tuple(pairs)
    if isinstance(value, Mapping):
        return tuple(value.items())
    return value


def _check_points(points: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
    if not points:
        raise ValueError("has no point; write it like 0.5:1020,0.99:4142")
    if len(points) > _MOST_POINTS:
        raise ValueError(f"has {len(points):,} points; write at most {_MOST_POINTS:,}")
    for quantile, tokens in points:
        if not 0 <= quantile <= 1:
            raise ValueError(f"{quantile} is no quantile; write one from 0 to 1")
        if not 1 <= tokens <= MOST_TOKENS:
            raise ValueError(f"{tokens} is no length in tokens; write 1 to {MOST_TOKENS:,}")
    for (low, fewer), (high, more) in pairwise(points):
        if high <= low or more < fewer:
            raise ValueError(f"{high}:{more} after {low}:{fewer}: quantiles and lengths rise")
    if not any(0 < quantile < 1 for quantile, _ in points):
        raise ValueError("has no point between 0 and 1; write one like 0.5:1020")
    return points


Lengths = Annotated[
    tuple[tuple[float, int], ...],
    BeforeValidator(_read_points),
    AfterValidator(_check_points),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "examples": ["0.5:1020,0.99:4142"]},
                {"type": "integer", "minimum": 1},
                {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
                {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            ]
        }
    ),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Arrivals(_Part):
    """When sessions start.

    `poisson`: exponential gaps. `gamma`: gamma gaps of the coefficient of variation `cv`.
    `onoff`: Poisson in on periods, nothing in off periods, both of exponential length.
    """

    process: Literal["poisson", "gamma", "onoff"] = Field(
        default="poisson", description="the process"
    )
    rate_per_s: float = Field(
        gt=0,
        le=1e6,
        description="requests a second in the long run; sessions start at this rate over "
        "sessions.turns_mean",
    )
    cv: float | None = Field(
        default=None,
        ge=1e-6,
        le=100,
        description="gamma only: standard deviation of the gaps over their mean",
    )
    on_s: float | None = Field(
        default=None, ge=1e-6, le=1e6, description="onoff only: mean on period, s"
    )
    off_s: float | None = Field(
        default=None, ge=1e-6, le=1e6, description="onoff only: mean off period, s"
    )

    @checked(mode="after")
    def _only_what_applies(self) -> "Arrivals":
        needed = {"poisson": (), "gamma": ("cv",), "onoff": ("on_s", "off_s")}[self.process]
        for name in ("cv", "on_s", "off_s"):
            given = getattr(self, name) is not None
            if given and name not in needed:
                raise ValueError(f"{name} does nothing with process: {self.process}; leave it out")
            if not given and name in needed:
                raise ValueError(f"process: {self.process} needs {name}")
        return self


class Sessions(_Part):
    """Conversations of several turns; each turn's prompt holds all earlier turns."""

    turns_mean: float = Field(
        default=1.0,
        ge=1,
        le=10_000,
        description="mean turns of a session, geometrically distributed",
    )
    think_s_mean: float | None = Field(
        default=None,
        ge=0,
        le=1e7,
        description="mean think time before a further turn, s, exponential",
    )
    follow_up_tokens: Lengths | None = Field(
        default=None, description="new tokens of a further turn; prompt_tokens where left out"
    )
    most_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MOST_TOKENS,
        description="a session ends before the turn whose prompt and output would exceed this",
    )
    system_prompts: int = Field(
        default=0, ge=0, le=1_000_000, description="different system prompts that sessions share"
    )
    system_prompt_tokens: int | None = Field(
        default=None, ge=1, le=MOST_TOKENS, description="length of each system prompt"
    )
    zipf: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="system prompt i is drawn with weight i^-zipf; 0, the default, for all alike",
    )

    @checked(mode="after")
    def _only_what_applies(self) -> "Sessions":
        if self.turns_mean == 1.0:
            for name in ("think_s_mean", "follow_up_tokens"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} does nothing with turns_mean: 1; leave it out")
        elif self.think_s_mean is None:
            raise ValueError("turns_mean above 1 needs think_s_mean")
        if self.system_prompts == 0 and self.system_prompt_tokens is not None:
            raise ValueError("system_prompt_tokens does nothing with system_prompts: 0")
        if self.system_prompts > 0 and self.system_prompt_tokens is None:
            raise ValueError("system_prompts needs system_prompt_tokens")
        if self.zipf is not None and self.system_prompts < 2:
            raise ValueError("zipf does nothing with fewer than two system_prompts; leave it out")
        return self


class Tenant(_Part):
    """One tenant; each session belongs to one."""

    name: str = Field(min_length=1, description="its name")
    share: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="its share of sessions, over the sum of all; of a single tenant left out",
    )
    priority: int = Field(
        default=0,
        ge=-(2**31),
        lt=2**31,
        description="priority of its requests; lower is more urgent",
    )


def _check_tenants(tenants: tuple[Tenant, ...]) -> tuple[Tenant, ...]:
    """Refuse tenants that are there twice, and shares that are missing or idle."""
    counts = Counter(tenant.name for tenant in tenants)
    for name, count in counts.items():
        if count > 1:
            raise ValueError(f"tenant {name!r} is there more than once")
        if not name.isprintable():
            raise ValueError(f"tenant {name!r} holds what does not print; write a plain name")
    if len(tenants) == 1 and tenants[0].share is not None:
        raise ValueError("share does nothing with one tenant; leave it out")
    for tenant in tenants if len(tenants) > 1 else ():
        if tenant.share is None:
            raise ValueError(f"tenant {tenant.name!r} needs a share")
    return tenants


class SynthSpec(_Part):
    """A workload to generate; the same specification always gives the same requests."""

    requests: int = Field(gt=0, le=50_000_000, description="number of requests")
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of all that is drawn")
    arrivals: Arrivals = Field(description="when requests arrive")
    prompt_tokens: Lengths = Field(
        description="new tokens of a session's first turn, by quantiles such as "
        "0.5:1020,0.99:4142: the logarithm of the length is piecewise linear in the normal score "
        "of the quantile (two points are a log-normal); points at 0 and 1 cut it off"
    )
    output_tokens: Lengths = Field(description="tokens generated, by quantiles")
    sessions: Sessions = Field(default=Sessions(), description="turns and system prompts")
    tenants: Annotated[tuple[Tenant, ...], AfterValidator(_check_tenants)] = Field(
        default=(), max_length=MOST_TENANTS, description="who sends the requests; empty for one"
    )
    block_tokens: int = Field(
        default=16, ge=0, le=1_000_000, description="tokens of a prefix block; 0 for no prefix ids"
    )

    @checked(mode="after")
    def _fits_together(self) -> "SynthSpec":
        most, system = self.sessions.most_tokens, self.sessions.system_prompt_tokens or 0
        if most is not None and most < system + 2:
            raise ValueError(
                f"sessions.most_tokens: {most} leaves no room for a prompt and its output"
                + (f" after a system prompt of {system}" if system else "")
            )
        if self.block_tokens == 0 and self.sessions.system_prompts > 1:
            raise ValueError(
                f"sessions.system_prompts: {self.sessions.system_prompts} does nothing with "
                "block_tokens: 0, which tells no prompts apart; write 1"
            )
        if self.sessions.system_prompts > 1 and system < self.block_tokens:
            raise ValueError(
                f"sessions.system_prompts: {self.sessions.system_prompts} does nothing: no block "
                f"of {self.block_tokens} tokens lies in {system} that sessions share; write 1, or "
                "block_tokens that fit"
            )
        return self
