"""Small valid inputs of every kind, and the commands that read them."""

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml

import vsim.sim.machine
from vsim.sim.placement.scenario import PlacementScenario
from vsim.sim.scenario.scenario import Scenario

CATALOGUE = Path(vsim.sim.machine.__file__).parent / "catalogue"

SCENARIO = """\
name: small
seed: 3
workload:
  synth:
    requests: 30
    arrivals: {rate_per_s: 20}
    prompt_tokens: "0.5:300,0.99:900"
    output_tokens: "0.5:20,0.99:60"
    sessions: {turns_mean: 2, think_s_mean: 1, system_prompts: 2, system_prompt_tokens: 128}
    block_tokens: 16
machine: machine.yaml
model: config.json
engine: {token_budget: 512, page_tokens: 32, preemption: swap}
tiers:
  - {tier: hbm, capacity: 1GiB}
  - {tier: host, capacity: 2GiB, write: through}
  - {tier: nvme, capacity: 8GiB}
"""

CONFIG = """\
{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_hidden_layers": 28,
 "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4,
 "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": false}
"""

ATTENTION = """\
name: attended
workload: {attention: recorded.arrow, steps: 4, selection: {sparsity: 0.8}}
machine: h200-measured
model: smollm2-135m
placement: lru
tiers:
  - {tier: hbm, capacity: 60MB}
  - {tier: host, access: in_place, write: through}
"""

PLACEMENT = """\
generate: {prompt_tokens: 320, steps: 6, heads: 3, requests: 1}
selection: {kind: top-share, sparsity: 0.8}
memory: {hbm_share: 0.25, hbm_bandwidth: 5TB/s, slow_bandwidth: 500GB/s, start: first-fill}
policies: [static, lru, belady]
"""

STACK = """\
generate: {prompt_tokens: 320, steps: 5, heads: 2}
memory:
  exclusive: false
  tiers:
    - {tier: hbm, bandwidth: 4.8TB/s, share: 0.2}
    - {tier: peer, bandwidth: 400GB/s, share: 0.3}
    - {tier: host, bandwidth: 50GB/s}
policies: [static, lru]
"""

MOONCAKE = "".join(
    f'{{"timestamp": {i * 250}, "input_length": {700 + 40 * i}, "output_length": {8 + i}, '
    f'"hash_ids": [{i % 3}, {i + 10}]}}\n'
    for i in range(12)
)
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:{15 + i}:46.6805900,{300 + i},{20 + i}\n" for i in range(10)
)
TABLE = "timestamp_s,prompt_tokens,output_tokens,tenant\n" + "".join(
    f"{i},{400 + i},{10 + i},t{i % 2}\n" for i in range(10)
)

TEXTS: Mapping[str, str] = {
    "scenario.yaml": SCENARIO,
    "machine.yaml": (CATALOGUE / "h100.yaml").read_text(),
    "config.json": CONFIG,
    "attention.yaml": ATTENTION,
    "placement.yaml": PLACEMENT,
    "stack.yaml": STACK,
    "mooncake.jsonl": MOONCAKE,
    "azure.csv": AZURE,
    "table.csv": TABLE,
}

RECORDED = Path(__file__).parents[2] / "traces" / "recorded" / "standard.arrow"

SYNTH = {
    "--requests": "40", "--rate": "10", "--prompt-quantiles": "0.5:90,0.99:500",
    "--output-quantiles": "0.5:16,0.99:70", "--turns": "2", "--think": "3",
    "--follow-up-quantiles": "0.5:30,0.99:90", "--system-prompts": "2",
    "--system-prompt-tokens": "64",
}  # fmt: skip


def write_inputs(folder: Path) -> None:
    """Write every input into a folder, and the tables of kernels that the machine's file names."""
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    for tables in CATALOGUE.glob("h100.*.kernels.arrow"):
        shutil.copy(tables, folder)
    with pa.ipc.open_file(RECORDED) as file:
        recorded = file.read_all()
    # more steps than any of VALUES asks for that is small enough, and a quarter of those recorded
    some = recorded.filter(pc.less(recorded["step"], 104))
    with pa.ipc.new_file(folder / "recorded.arrow", recorded.schema) as file:
        file.write_table(some)


def keys_of(schema: Mapping[str, object]) -> list[str]:
    """Every dotted key of a JSON schema, the first two entries of lists included."""
    definitions = schema.get("$defs", {})
    assert isinstance(definitions, dict)
    found: list[str] = []

    def walk(node: object, key: str, depth: int) -> None:
        if not isinstance(node, dict) or depth > 7:
            return
        if "$ref" in node:
            walk(definitions[str(node["$ref"]).rpartition("/")[2]], key, depth)
        for each in node.get("anyOf", ()):
            walk(each, key, depth)
        properties = node.get("properties")
        if isinstance(properties, dict):
            for name, inner in properties.items():
                path = f"{key}.{name}" if key else name
                found.append(path)
                walk(inner, path, depth + 1)
        if "items" in node:
            for index in range(2):
                walk(node["items"], f"{key}.{index}", depth + 1)

    walk(schema, "", 0)
    return sorted(set(found))


RUN_KEYS = keys_of(Scenario.model_json_schema())
BOUND_KEYS = keys_of(PlacementScenario.model_json_schema())

VALUES = (
    "0", "1", "2", "3", "7", "16", "64", "100", "-1", "0.5", "0.999999", "1e-9", "1e-300", "1e9",
    "1e18", "1e300", "2147483647", "2147483648", "9007199254740993", "9223372036854775807",
    "9223372036854775808", "18446744073709551616", ".inf", "-.inf", ".nan", "null", "true", "off",
    "''", "[]", "{}", "[1, 2]", "{a: 1}", "lru", "fair", "priority", "static", "wait", "through",
    "in_place", "balanced", "mapped", "think_times", "1B", "1KiB", "300MiB", "4TiB", "1EiB", "1B/s",
    "1TB/s", "1ns", "10000h", "fp8", "int4", "2024-01-01", "host", "nvme", "all", "transfers",
    "0.5:100,0.9:50", "'0.5:1,0.99:2000000000'", "belady", "learned", "dense", "window", "layer",
)  # fmt: skip


def changed_number(draw: random.Random, text: str) -> str:
    """Put another number in the place of one."""
    import re

    places = list(re.finditer(r"(?<![\w.])-?\d+(?:\.\d+)?", text))
    if not places:
        return text
    place = draw.choice(places)
    value = float(place.group())
    new = draw.choice(
        [f"{value * 2:g}", f"{value * 1000:g}", f"{value / 10:g}", f"{-value:g}", f"{value + 1:g}",
         *(each for each in VALUES if each[:1].isdigit())]
    )  # fmt: skip
    return text[: place.start()] + new + text[place.end() :]


def changed_line(draw: random.Random, text: str) -> str:
    """Repeat, drop, swap or cut a line."""
    lines = text.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    way = draw.randrange(4)
    if way == 0:
        lines.insert(at, lines[at])
    elif way == 1:
        del lines[at]
    elif way == 2:
        other = draw.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = lines[at][: draw.randrange(len(lines[at]) + 1)]
    return "".join(lines)


def changed_characters(draw: random.Random, text: str) -> str:
    """Replace, insert or drop some characters."""
    for _ in range(draw.choice((1, 1, 2, 8))):
        at = draw.randrange(len(text))
        new = draw.choice(
            ["", "0", "-", ",", ":", "\n", '"', "[", "}", "\x00", "é", "\t", "&a ", "*a"]
        )
        text = text[:at] + new + text[at + draw.randrange(2) :]
    return text


CHANGES: tuple[Callable[[random.Random, str], str], ...] = (
    changed_number, changed_number, changed_line, changed_characters,
)  # fmt: skip


def spoil(draw: random.Random, folder: Path) -> None:
    """Change one or two of a folder's inputs, or none."""
    for _ in range(draw.choice((0, 1, 1, 1, 2))):
        name = draw.choice(list(TEXTS))
        path = folder / name
        text = path.read_text(errors="replace")
        path.write_text(draw.choice(CHANGES)(draw, text) if text else text)


def settings(draw: random.Random, keys: list[str]) -> list[str]:
    """Some `--set`s of existing keys."""
    count = draw.choice((0, 1, 1, 2, 3))
    pairs = [f"{draw.choice(keys)}={draw.choice(VALUES)}" for _ in range(count)]
    return [word for pair in pairs for word in ("--set", pair)]


def command(draw: random.Random, folder: Path) -> list[str]:
    """A command over a folder's inputs."""
    trace = draw.choice(["mooncake.jsonl", "azure.csv", "table.csv", "recorded.arrow"])
    kind = draw.randrange(10)
    if kind <= 2:
        return ["run", "scenario.yaml", *settings(draw, RUN_KEYS), "--out", "out"]
    if kind == 3:
        return ["run", "scenario.yaml", "--trace", trace, *settings(draw, RUN_KEYS), "--out", "out"]
    if kind == 4:
        return ["run", "attention.yaml", *settings(draw, RUN_KEYS), "--out", "out"]
    if kind == 5:
        return ["bound", "placement.yaml", *settings(draw, BOUND_KEYS), "--json", "bound.json"]
    if kind == 6:
        return ["bound", "stack.yaml", *settings(draw, BOUND_KEYS), "--json", "bound.json"]
    if kind == 7:
        return ["trace", draw.choice(["info", "check"]), trace]
    if kind == 8:
        return ["trace", "import", trace, "--out", "out.arrow"]
    options = dict(SYNTH)
    for _ in range(draw.choice((0, 1, 2))):
        name = draw.choice([*options, "--seed", "--block-tokens", "--arrivals"])
        options[name] = draw.choice(VALUES)
    return ["trace", "synth", "--out", "out.arrow", *(w for pair in options.items() for w in pair)]


def documents() -> list[str]:
    """The inputs that are YAML: a check that they are what they are meant to be."""
    return [name for name, text in TEXTS.items() if name.endswith(".yaml") and yaml.safe_load(text)]
