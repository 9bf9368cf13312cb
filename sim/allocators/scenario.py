"""`AllocScenario`: what `vsim alloc scenario.yaml` compares."""

from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from vsim.sim.allocators.model_settings import GENERAL, Settings
from vsim.sim.inputs.model_faults import FieldsError, Place, explain
from vsim.sim.inputs.words import Text, Word
from vsim.sim.inputs.yaml_input import Bytes
from vsim.sim.machine.precision import Precision
from vsim.traces.synth_spec import Lengths

MIB, GIB = 2**20, 2**30


class _Section(BaseModel):
    """A part of a scenario: no unknown keys, no changes after it was built, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GrowthSettings(_Section):
    """Buffers that are made larger: by copying, or by mapping more."""

    added: tuple[Bytes, ...] = Field(default=(2 * MIB, 64 * MIB, GIB), min_length=1, max_length=32)
    """What a buffer grows by at once."""
    chunks: tuple[Bytes, ...] = Field(default=(2 * MIB, 64 * MIB, GIB), min_length=1, max_length=32)
    """Sizes of the chunks that are mapped; those above what is added are left out."""

    @model_validator(mode="after")
    def _some_chunk_fits(self) -> Self:
        if min(self.chunks) > max(self.added):
            said = "are all larger than what is added; write a smaller one"
            raise FieldsError([(("chunks",), said)])
        return self


class DrawnLengths(_Section):
    """Lengths drawn by quantiles, as `vsim trace synth` draws them."""

    sequences: int = Field(ge=1, le=1_000_000)
    """How many."""
    prompt_tokens: Lengths
    """Tokens of prompts, by quantiles."""
    output_tokens: Lengths
    """Tokens of answers, by quantiles."""
    seed: int = Field(default=0, ge=0, lt=2**62)
    """Seed of both."""


def _read_drawn(value: object) -> object:
    """Read lengths in any of the forms that they may be written in: text, pairs or a mapping."""
    if not isinstance(value, dict):
        return value
    try:
        return DrawnLengths.model_validate(value)
    except ValidationError as error:
        found = explain(error, value, DrawnLengths)
        raise FieldsError((place, message) for place, message, _ in found) from None


class KvSettings(_Section):
    """How many sequences a memory for KV holds, by the way that they are given room."""

    requests: Word | None = None
    """A trace of requests, for its lengths, in its order. Or `drawn`."""
    drawn: Annotated[DrawnLengths | None, BeforeValidator(_read_drawn)] = None
    """Lengths drawn from a seed. Exactly one of `requests` and `drawn` is given."""
    model: Word = "llama-3.1-8b"
    """Whose KV: a name of the catalogue, or a file."""
    precision: Precision = "bf16"
    """Of the KV."""
    memory: Bytes
    """HBM for KV."""
    longest: int = Field(ge=1, le=1 << 30)
    """Tokens of the longest sequence that the server allows; longer requests are left out."""
    sequences: int | None = Field(default=None, ge=1, le=1_000_000)
    """Only the first so many of `requests` that fit. Left out: all."""
    block_tokens: int = Field(default=16, ge=1, le=1 << 20)
    """Tokens of a block, where KV is paged."""
    chunk: Bytes = 2 * MIB
    """A chunk of one layer's keys or values, where KV is in ranges."""
    held: int = Field(default=32, ge=1, le=1 << 20)
    """Sequences at once, for the memory that an equal load takes."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.requests is None) == (self.drawn is None):
            found = "both are given" if self.drawn is not None else "neither is given"
            said = f"{found}; write exactly one of requests and drawn"
            raise FieldsError([(("requests",), said)])
        if self.sequences is not None and self.requests is None:
            said = "does nothing with drawn, which has its own; leave it out"
            raise FieldsError([(("sequences",), said)])
        return self


class AllocScenario(_Section):
    """A recording of allocations and the allocators that it is replayed through."""

    description: Text = ""
    """What is asked."""
    trace: Word | None = None
    """Recorded allocations (Arrow, kind allocations); a path from the scenario's folder."""
    device: int | None = Field(default=None, ge=0, le=1023)
    """The GPU whose allocations are replayed. Left out: the only one of the trace."""
    models: Annotated[tuple[Settings, ...], Field(min_length=1, max_length=64)] = Field(
        default=(), validate_default=False
    )
    """The allocators. Left out: all but the preload library's and the KV caches, with their
    defaults."""
    capacity: Bytes | None = None
    """The GPU's memory. Left out: it never ends."""
    again: int | None = Field(default=None, ge=1, le=10_000_000)
    """The trace ends with a call that failed: make it so often, as its program would have gone on.
    Left out: the program goes on without."""
    machine: Word | None = None
    """Whose driver calls and memory are timed: a name of the catalogue, or a file."""
    moments: int = Field(default=8, ge=1, le=100)
    """Rows of the table of fragmentation over time."""
    growth: GrowthSettings | None = None
    """Copying against mapping. Only with a machine."""
    kv: KvSettings | None = None
    """Sequences held."""

    @model_validator(mode="after")
    def _acts(self) -> Self:
        faults: list[tuple[Place, str]] = []
        if self.trace is None and self.growth is None and self.kv is None:
            faults.append((("trace",), "is missing; write a trace, growth or kv"))
        if self.trace is None:
            faults.extend(
                ((name,), "does nothing without a trace; leave it out")
                for name in ("device", "models", "capacity", "again", "moments")
                if name in self.model_fields_set
            )
            if self.machine is not None and self.growth is None:
                faults.append(
                    (("machine",), "does nothing without a trace or growth; leave it out")
                )
        if self.growth is not None and self.machine is None:
            faults.append((("growth",), "needs a machine, whose calls are timed; write machine"))
        if faults:
            raise FieldsError(faults)
        return self

    def named_models(self) -> list[tuple[str, Settings]]:
        """The models by name; one that is there more than once gets a number."""
        models: list[Settings] = list(self.models)
        if not models:
            read: TypeAdapter[Settings] = TypeAdapter(Settings)
            models = [read.validate_python({"model": name}) for name in GENERAL]
        names = [each.model for each in models]
        seen: dict[str, int] = {}
        named = []
        for name, each in zip(names, models, strict=True):
            seen[name] = seen.get(name, 0) + 1
            named.append((f"{name}-{seen[name]}" if names.count(name) > 1 else name, each))
        return named
