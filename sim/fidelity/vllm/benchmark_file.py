"""What `vllm bench serve --save-result --save-detailed` saves, one JSON object a run.

Keys of vllm/benchmarks/serve.py, 0.10 to 0.25: `input_lens`, `output_lens`, `ttfts`, `itls` and
`errors` always, `start_times` of newer versions, `latencies` of the newest. Without `start_times`
it is known when requests were sent only if all were sent at once (`request_rate` is "inf" and no
`max_concurrency` was set).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from vsim.sim.fidelity.vllm.facts import Benchmark, BenchmarkRequest, Facts
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.limits import MOST_TOKENS

_LISTS: Final = ("input_lens", "output_lens", "ttfts", "itls")
_LONGEST_S: Final = 1e8


def read_benchmark(text: str, file: str) -> list[Facts]:
    """Read one run, or several of a file that was appended to, one a line.

    Raises:
        InputError: naming each value that is wrong.
    """
    found = []
    for number, document in _documents(text, file):
        found.append(_read(document, file if number is None else f"{file}:{number}"))
    return found


def _documents(text: str, file: str) -> list[tuple[int | None, Mapping[str, Any]]]:
    try:
        values: list[tuple[int | None, Any]] = [(None, json.loads(text))]
    except (ValueError, RecursionError):
        values = []
        for row, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                values.append((row, json.loads(line)))
            except (ValueError, RecursionError) as error:
                message = getattr(error, "msg", "a value nested or long beyond measure")
                refuse(file, f"is no JSON: {message}; save the benchmark's result again", line=row)
    if not values:
        refuse(file, "is empty; save the benchmark's result again")
    for number, value in values:
        if not isinstance(value, dict):
            refuse(file, "holds no object of a benchmark's result", line=number)
    return values


def _read(document: Mapping[str, Any], file: str) -> Facts:
    if any(name not in document for name in _LISTS):
        missing = ", ".join(name for name in _LISTS if name not in document)
        refuse(file, f"has no {missing}; run the benchmark with --save-result --save-detailed")
    faults: list[Fault] = []
    counts = {name: _list(document, name, file, faults) for name in _LISTS}
    length = len(counts["ttfts"])
    for optional in ("start_times", "latencies", "errors"):
        if optional in document:
            counts[optional] = _list(document, optional, file, faults)
    for name, values in counts.items():
        if len(values) != length:
            message = f"has {len(values)} values, and ttfts {length}; each request has one"
            faults.append(Fault(file, message, place=name))
    if faults:
        raise InputError(faults)
    if "start_times" not in counts and not _all_at_once(document):
        refuse(
            file,
            "has no start_times, and its requests were not all sent at once; run the benchmark of "
            "a newer vLLM, or with --request-rate inf",
        )
    requests: list[BenchmarkRequest] = []
    gaps: list[float] = []
    failed = 0
    for row in range(length):
        errors = counts.get("errors")
        if (errors and errors[row]) or not counts["output_lens"][row]:
            failed += 1
            continue
        request = _request(counts, row, file, faults)
        if request is not None:
            requests.append(request)
            gaps.extend(float(gap) for gap in counts["itls"][row])
    if faults:
        raise InputError(faults)
    if not requests:
        refuse(file, "holds no request that succeeded")
    notes = (f"{failed} requests that failed are left out",) if failed else ()
    model = document.get("model_id")
    settings = {"model": model} if isinstance(model, str) else {}
    benchmark = Benchmark(tuple(requests), tuple(gaps))
    return Facts(file, "benchmark", settings, benchmark=benchmark, notes=notes)


def _all_at_once(document: Mapping[str, Any]) -> bool:
    rate = document.get("request_rate")
    return str(rate) in ("inf", "Infinity") and document.get("max_concurrency") is None


def _list(document: Mapping[str, Any], name: str, file: str, faults: list[Fault]) -> Sequence[Any]:
    value = document[name]
    if not isinstance(value, list):
        faults.append(Fault(file, "is no list; save the benchmark's result again", place=name))
        return []
    return value


def _request(
    counts: Mapping[str, Sequence[Any]], row: int, file: str, faults: list[Fault]
) -> BenchmarkRequest | None:
    before = len(faults)

    def seconds(value: object, name: str) -> float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not 0 <= value < _LONGEST_S:  # type: ignore[operator]  # a number by now
            message = f"{str(value)[:40]} is no time in seconds"
            faults.append(Fault(file, message, place=f"{name}[{row}]"))
            return 0.0
        return float(value)  # type: ignore[arg-type]  # a number by now

    def tokens(name: str) -> int:
        value = counts[name][row]
        if type(value) is not int or not 1 <= value <= MOST_TOKENS:
            message = f"{str(value)[:40]} is no number of tokens from 1 to {MOST_TOKENS:,}"
            faults.append(Fault(file, message, place=f"{name}[{row}]"))
            return 1
        return value

    itls = counts["itls"][row]
    if not isinstance(itls, list):
        faults.append(Fault(file, "is no list of gaps", place=f"itls[{row}]"))
        itls = []
    start = seconds(counts["start_times"][row], "start_times") if "start_times" in counts else 0.0
    ttft = seconds(counts["ttfts"][row], "ttfts")
    gaps = [seconds(gap, "itls") for gap in itls]
    whole = ttft + sum(gaps)
    if "latencies" in counts:
        whole = max(ttft, seconds(counts["latencies"][row], "latencies"))
    prompt, output = tokens("input_lens"), tokens("output_lens")
    if len(faults) > before:
        return None
    return BenchmarkRequest(start, start + ttft, start + whole, prompt, output)
