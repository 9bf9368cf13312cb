"""YAML input: every fault names file, line, column and field, and says what to write."""

import math
import re
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tests.seeds import examples

from vsim.sim.inputs.yaml_input import (
    Bandwidth,
    Bytes,
    DurationNs,
    FieldsError,
    Flops,
    YamlDocument,
    load_yaml,
    parse_yaml,
    read_yaml,
)
from vsim.traces.faults import InputError

ROOT = Path(__file__).parents[3]
# What UTF-8 has, as hypothesis draws by default: but it finds that out by trying a million of them.
ANY = st.characters(exclude_categories=["Cs"])


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Memory(_Part):
    name: str
    capacity: Bytes
    latency: DurationNs = 0
    bandwidth: Bandwidth | None = None


class Lru(_Part):
    kind: Literal["lru"]


class Clock(_Part):
    kind: Literal["clock"]
    hands: int = Field(1, ge=1, le=4)


class Computer(_Part):
    name: str
    rate: Flops | None = None
    share: float = Field(0.5, ge=0, lt=1)
    quick: bool = True
    mode: Literal["fast", "slow"] = "fast"
    policy: Annotated[Lru | Clock, Field(discriminator="kind")] | None = None
    tiers: tuple[Memory, ...] = ()
    labels: dict[str, int] = {}

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [tier.name for tier in self.tiers]
        repeated = [index for index, name in enumerate(names) if name in names[:index]]
        if repeated:
            raise FieldsError((("tiers", index, "name"), "is taken") for index in repeated)
        return self


SYNTAX = "is not YAML here (check indentation, quotes and brackets)"


def faults(text: str, *overrides: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "c.yaml", Computer, overrides)
    return [str(fault) for fault in caught.value.faults]


def faults_or_none(text: str) -> list[str]:
    try:
        parse_yaml(text, "c.yaml", Computer)
    except InputError as error:
        return [str(fault) for fault in error.faults]
    return []


def test_a_file_becomes_the_model_with_units_as_plain_numbers(tmp_path: Any) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: big\nrate: 989TFLOP/s\ntiers:\n"
        "  - {name: hbm, capacity: 80GiB, latency: 12us, bandwidth: 3.35TB/s}\n"
        "labels: {a: 1}\npolicy: {kind: clock}\n"
    )
    built = load_yaml(path, Computer)
    assert built.tiers == (
        Memory(name="hbm", capacity=80 * 2**30, latency=12_000, bandwidth=3.35e12),
    )
    assert built.rate == 989e12
    assert built.labels == {"a": 1}
    assert built.policy == Clock(kind="clock")


def test_a_value_built_in_python_may_be_the_number_or_the_text() -> None:
    assert Memory(name="a", capacity=7) == Memory(name="a", capacity="7B")  # type: ignore[arg-type] # text is read too


def test_the_example_of_the_design_reads_as_it_says() -> None:
    text = "name: x\ntiers:\n- {name: a, capacity: 1GiB}\n- name: b\n  capacity:    512GB/s\n"
    assert faults(text) == [
        "c.yaml:5:16: tiers.1.capacity: '512GB/s' is not a size; write it like 80GiB"
    ]


def test_all_faults_of_a_file_are_reported_at_once() -> None:
    text = "nam: x\nshare: 2\nquick: 1\ntiers:\n  - capacity: 5\n    speed: 1\n"
    assert faults(text) == [
        "c.yaml:1:1: name: is missing; write `name: …`",
        "c.yaml:1:1: nam: unknown key 'nam' (did you mean 'name'?)",
        "c.yaml:2:8: share: 2 is out of range; write a number below 1",
        "c.yaml:3:8: quick: 1 is not a yes or no; write true or false",
        "c.yaml:5:5: tiers.0.name: is missing; write `name: …`",
        "c.yaml:5:15: tiers.0.capacity: 5 is not a size; write it like 80GiB",
        "c.yaml:6:5: tiers.0.speed: unknown key 'speed'"
        " (known: bandwidth, capacity, latency, name)",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "c.yaml: is empty; write at least one field, like `name: x`"),
        ("# nothing\n", "c.yaml: is empty; write at least one field, like `name: x`"),
        ("- a\n", "c.yaml:1: holds a list; write fields, one a line, like `name: x`"),
        ("word\n", "c.yaml:1: holds a single value; write fields, one a line, like `name: x`"),
        ("name: [1\n", "c.yaml:2:1: " + SYNTAX + ": expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", "c.yaml:1:5: " + SYNTAX + ": mapping values are not allowed here"),
        ("\tname: x\n", "c.yaml:1:1: " + SYNTAX + ": found character '\\t' that cannot start"
         " any token"),
        ("name: x\n---\nname: y\n", "c.yaml:2:1: " + SYNTAX + ": but found another document"),
        ("name: x\nname: y\n", "c.yaml:2:1: name: is written twice (first on line 1); keep one of"
         " them"),
        ("name: x\n? [a, b]\n: 1\n", "c.yaml:2:3: a key must be a word; write it like"
         " `name: value`"),
        ('name: x\n"a\\nb": 1\n', "c.yaml:2:1: a b: unknown key 'a b'"
         " (known: labels, mode, name, policy, quick, rate, share, tiers)"),
        ("name: !!python/name:os.system x\n", "c.yaml:1:7: name: tag"
         " 'tag:yaml.org,2002:python/name:os.system' is not allowed; write the plain value"),
        ("name: x\nshare: .nan\n", "c.yaml:2:8: share: .nan is not a finite number; write an"
         " ordinary number"),
        ("name: x\nshare: -.INF\n", "c.yaml:2:8: share: -.INF is not a finite number; write an"
         " ordinary number"),
        ("name: x\nshare: 1e999\n", "c.yaml:2:8: share: 1e999 is too large a number; write a"
         " smaller one"),
        ("name: x\nshare: nan\n", "c.yaml:2:8: share: 'nan' is not a number; write it like 0.5"),
        ("name: 5\n", "c.yaml:1:7: name: 5 is not text; write a word or put it in quotes"),
        ("name:\n", "c.yaml:1:6: name: nothing is not text; write a word or put it in quotes"),
        ("name: x\nmode: fats\n", "c.yaml:2:7: mode: 'fats' is not known here"
         " (did you mean 'fast'?)"),
        ("name: x\ntiers: {a: 1}\n", "c.yaml:2:8: tiers: a group of fields is not a list; write"
         " it like [a, b] or one `- item` a line"),
        ("name: x\ntiers: [5]\n", "c.yaml:2:9: tiers.0: 5 is not a group of fields; write it like"
         " {key: value}"),
        ("name: x\nlabels: {a: 1.5}\n", "c.yaml:2:13: labels.a: 1.5 is not a whole number; write"
         " it like 4"),
        ("name: x\nlabels: {a: true}\n", "c.yaml:2:13: labels.a: true is not a whole number;"
         " write it like 4"),
        ("name: x\ntiers: [{name: a}]\n", "c.yaml:2:9: tiers.0.capacity: is missing; write"
         " `capacity: 80GiB`"),
        ("name: x\ntiers: [{name: a, capacity: 0B}]\n", "c.yaml:2:29: tiers.0.capacity: '0B' is"
         " out of range; write from 1B to 1024PiB"),
        ("name: x\npolicy: {kind: clok}\n", "c.yaml:2:9: policy: kind 'clok' is not known here"
         " (did you mean 'clock'?)"),
        ("name: x\npolicy: {hands: 2}\n", "c.yaml:2:9: policy: has no 'kind'; write `kind: …` to"
         " say which kind it is"),
        ("name: x\npolicy: {kind: clock, hands: 9}\n", "c.yaml:2:30: policy.hands: 9 is out of"
         " range; write a number of at most 4"),
        ("name: x\ntiers:\n- {name: a, capacity: 1B}\n- {name: a, capacity: 1B}\n",
         "c.yaml:4:10: tiers.1.name: is taken"),
    ],
)  # fmt: skip
def test_a_fault_says_where_it_is_and_what_to_write(text: str, expected: str) -> None:
    assert faults(text) == [expected]


def test_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    text = "name: on\nshare: 1e-3\nlabels: {010: 010, yes: -7, '~': 0}\n"
    built = parse_yaml(text, "c.yaml", Computer)
    assert built.name == "on"
    assert built.share == 1e-3
    assert built.labels == {"010": 10, "yes": -7, "~": 0}


def test_an_alias_repeats_a_value() -> None:
    text = "name: x\ntiers: [&a {name: a, capacity: 1B}]\nlabels: {}\npolicy: null\n"
    assert parse_yaml(text, "c.yaml", Computer).tiers[0].capacity == 1
    both = "name: &n x\ntiers: [{name: *n, capacity: 1B}]\n"
    assert parse_yaml(both, "c.yaml", Computer).tiers[0].name == "x"


@pytest.mark.parametrize(
    "text",
    [
        "name: &a [*a]\n",
        "name: " + "[" * 100 + "]" * 100 + "\n",
        "name: " + "[" * 5000 + "]" * 5000 + "\n",
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"
            for before, after in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ],
    ids=["an alias of itself", "deep", "very deep", "aliases that multiply"],
)
def test_a_document_that_would_never_end_is_refused(text: str) -> None:
    (fault,) = faults(text)
    assert fault.startswith("c.yaml")
    assert "deeply" in fault


def test_a_set_option_changes_a_value_and_is_read_as_yaml() -> None:
    text = "name: x\ntiers: [{name: a, capacity: 1B}]\n"
    overrides = ("tiers.0.capacity=2KiB", "policy={kind: clock}", "policy.hands=3", "labels.a=-1")
    built = parse_yaml(text, "c.yaml", Computer, overrides)
    assert built.tiers[0].capacity == 2048
    assert built.policy == Clock(kind="clock", hands=3)
    assert built.labels == {"a": -1}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tiers.0.capacity=5s", "--set tiers.0.capacity: '5s' is not a size; write it like 80GiB"),
        ("tiers.0={name: b}", "--set tiers.0: tiers.0.capacity: is missing; write"
         " `capacity: 80GiB`"),
        ("tires.0=1", "--set tires.0: tires: unknown key 'tires' (did you mean 'tiers'?)"),
        ("tiers.1.name=b", "--set tiers.1.name: 'tiers' is a list of 1, counted from 0; there is"
         " no '1' in it"),
        ("name.first=b", "--set name.first: 'name' is a single value and has no fields; there is"
         " no 'first' in it"),
        ("share", "--set: 'share' is not a setting; write it like engine.token_budget=4096"),
        ("=4", "--set: '=4' is not a setting; write it like engine.token_budget=4096"),
        ("a..b=4", "--set: 'a..b=4' is not a setting; write it like engine.token_budget=4096"),
        ("share=.inf", "--set share: .inf is not a finite number; write an ordinary number"),
        ("share=[1", "--set share: '[1' " + SYNTAX + ": expected ',' or ']', but got '<stream"
         " end>'"),
        ("name=a\nb", "--set name: 'a\\nb' holds a line break; write one line"),
        ("tiers=null", "--set tiers: nothing is not a list; write it like [a, b] or one `- item` a"
         " line"),
    ],
)  # fmt: skip
def test_a_wrong_set_option_is_reported_as_that_option(override: str, expected: str) -> None:
    assert faults("name: x\ntiers: [{name: a, capacity: 1B}]\n", override) == [expected]


def test_faults_found_later_still_know_their_position(tmp_path: Any) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\ntiers:\n  - {name: a, capacity: 1B}\n")
    document = read_yaml(path, ["share=0.25"])
    assert str(document.fault(("tiers", 0, "capacity"), "m")) == f"{path}:3:25: tiers.0.capacity: m"
    assert str(document.fault(("tiers", 0, "latency"), "m")) == f"{path}:3:5: tiers.0.latency: m"
    assert str(document.fault(("share",), "m")) == "--set share: m"
    assert str(document.fault(("tiers",), "m", at_key=True)) == f"{path}:2:1: tiers: m"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b"name: x\n\xff\xfe\n"), "byte 8 is not UTF-8"),
        (lambda path: path.write_bytes(b"name: \x00\n"), "is not allowed in YAML"),
        (lambda path: path.write_bytes(b"#" * (16 * 2**20 + 1)), "is larger than 16 MiB"),
    ],
)
def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Any, make: Any, expected: str) -> None:
    path = tmp_path / "c.yaml"
    make(path)
    with pytest.raises(InputError) as caught:
        load_yaml(path, Computer)
    (fault,) = caught.value.faults
    assert str(fault).startswith(str(path))
    assert expected in fault.message


@settings(max_examples=examples(60), deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(ANY, max_size=8) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["name", "tiers", "kind", "capacity"]), inner)
        ),
        max_leaves=12,
    )
)
def test_whatever_is_written_ends_in_a_model_or_in_faults(value: object) -> None:
    text = yaml.safe_dump({"name": "x", "tiers": value}, allow_unicode=True)
    for fault in faults_or_none(text):
        assert "\n" not in fault
        assert "pydantic" not in fault
        assert "Input should" not in fault


def test_the_json_schema_shows_editors_what_is_written() -> None:
    schema = Computer.model_json_schema()["$defs"]["Memory"]["properties"]
    assert schema["capacity"]["type"] == "string"
    assert schema["capacity"]["examples"] == ["80GiB", "2MiB"]
    patterns = {name: schema[name].get("pattern") for name in ("capacity", "latency")}
    assert re.search(patterns["capacity"], "1.5GiB")
    assert not re.search(patterns["capacity"], "1.5GB/s")
    assert re.search(patterns["latency"], "12us")
    assert not re.search(patterns["latency"], "12")


@given(st.integers(1, 2**40), st.sampled_from(["B", "kB", "MiB", "GiB"]))
def test_sizes_read_exactly(count: int, unit: str) -> None:
    factor = {"B": 1, "kB": 1000, "MiB": 2**20, "GiB": 2**30}[unit]
    if count * factor < 2**53:
        built = parse_yaml(f"name: a\ncapacity: {count}{unit}\n", "m.yaml", Memory)
        assert built.capacity == count * factor
        assert math.isclose(built.capacity / factor, count)


PIECES = (
    "a: 1", "- b", "k: [a, b]", "k: {a: 1, b: [x, 'y']}", "'x'", '"y: z"', "k: >\n  f\n\n  g\n",
    "k: >-\n   f\n  g\n", "# c", " #c", ":", ": ", ",", "- - - x", "\n\n", "k: ''", "{", "}", "[",
    "]", "a:b", "{y:}", "{a: }", "k:\n- 1\n- 2", "k:\n  - 1", "k: é – x", "k: 'a\n  b'", "a\n  b",
    "k: {a: }", "- {a: }", "k:", "a #b", "a# b", "[,]", "[a: b, c]", "{[a]: b}", "k: ~",
    "k: 1e9", "<<: x", ">#", "=", "k: a `b`", "k: `a`", "`", "# `c`",
)  # fmt: skip


def read_both_ways(text: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What a document holds and where, or its faults: read as it is, and by the slow parser."""
    found: list[tuple[object, ...]] = []
    for slowly in (False, True):
        with monkeypatch.context() as patch:
            if slowly:
                patch.setattr(YamlDocument, "_read_quickly", lambda self, text: False)
            try:
                read = YamlDocument(text, "f.yaml")
            except InputError as error:
                found.append(tuple(map(str, error.faults)))
            else:
                found.append((repr(read.data), read._keys, read._values))
    return found


def test_libyaml_and_pyyaml_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for one, two in product(PIECES, repeat=2):
        for between in ("\n", "\n  "):
            quickly, slowly = read_both_ways(f"{one}{between}{two}\n", monkeypatch)
            assert quickly == slowly, (one, between, two)


def test_files_of_the_catalogues_are_read_quickly_and_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = [*(ROOT / "scenarios").glob("*.yaml"), *(ROOT / "sim").glob("*/catalogue/*.yaml")]
    measured = ROOT / "traces" / "recorded" / "gpu" / "2xh200.yaml"
    texts = [path.read_text() for path in [*sorted(paths)[::4], measured]]
    assert "`" in texts[-1]
    for text in texts:
        quickly, slowly = read_both_ways(text, monkeypatch)
        assert quickly == slowly
    monkeypatch.setattr(YamlDocument, "_compose", lambda self, text: pytest.fail(text[:300]))
    for text in texts:
        YamlDocument(text, "f.yaml")
