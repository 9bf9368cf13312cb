"""Several files of one vLLM server make one measured run."""

from pathlib import Path

import pytest
from tests.sim.fidelity.vllm.texts import LOG_0_25, METRICS, benchmark

from vsim.sim.fidelity.measured import MeasuredRun
from vsim.sim.fidelity.recording import read_recording
from vsim.sim.fidelity.vllm.imported import ImportedRun, import_vllm
from vsim.traces.arrow_io import write_table
from vsim.traces.faults import InputError


def files(folder: Path, **texts: str) -> list[str]:
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in texts]


def stored(folder: Path, imported: ImportedRun) -> MeasuredRun:
    write_table(imported.table, folder / "r.arrow", "server_runs", imported.provenance)
    return read_recording(folder / "r.arrow", "public")


def test_log_metrics_and_benchmark_are_put_together(tmp_path: Path) -> None:
    paths = files(tmp_path, log=LOG_0_25, metrics=METRICS, bench=benchmark())
    imported = import_vllm(paths, name="mine", gpu="NVIDIA H100")
    run = stored(tmp_path, imported)
    assert (run.name, run.engine, run.version) == ("mine", "vLLM", "0.25.1")
    assert (run.gpu, run.gpus, run.model) == ("NVIDIA H100", 1, "org/Model-8B")
    assert (run.settings.num_gpu_blocks, run.settings.token_budget) == (3000, 8192)
    assert run.counters["gpu_prefix_hits_tokens"] == 120
    (repeat,) = run.repeats
    assert repeat.requests.arrival_ns.tolist() == [0, 1_500_000_000]
    assert repeat.first_token_ns.tolist() == [100_000_000, 1_700_000_000]
    assert repeat.last_token_ns.tolist() == [220_000_000, 1_800_000_000]
    assert repeat.preemptions.tolist() == [-1, -1]
    assert {name: round(ms, 3) for name, ms in repeat.gaps_ms.items()} == {
        "mean": 73.333,
        "p50": 70.0,
        "p90": 100.0,
        "p99": 100.0,
    }
    assert any("no file says max_num_seqs" in note for note in imported.notes)
    assert any(note.endswith("1 requests that failed are left out") for note in imported.notes)


def test_each_benchmark_is_a_repeat(tmp_path: Path) -> None:
    paths = files(tmp_path, a=benchmark(), b=benchmark(ttfts=[0.2, 0.0, 0.3]))
    run = stored(tmp_path, import_vllm(paths, name="two"))
    assert [int(repeat.first_token_ns[0]) for repeat in run.repeats] == [10**8, 2 * 10**8]


def test_without_a_benchmark_there_are_counters_alone(tmp_path: Path) -> None:
    imported = import_vllm(files(tmp_path, metrics=METRICS), name="counted")
    run = stored(tmp_path, imported)
    assert run.repeats == ()
    assert run.counters["preemptions"] == 3
    assert any("no file holds single requests" in note for note in imported.notes)
    assert any("write --gpu" in note for note in imported.notes)


def test_of_two_dumps_what_happened_between_them_counts(tmp_path: Path) -> None:
    later = METRICS.replace("} 3.0", "} 10.0", 1)
    run = stored(tmp_path, import_vllm(files(tmp_path, a=METRICS, b=later), name="x"))
    assert run.counters["preemptions"] == 7
    with pytest.raises(InputError, match="is the third dump of metrics"):
        import_vllm(files(tmp_path, a=METRICS, b=later, c=later), name="x")


def test_the_metrics_sums_go_before_the_log_s(tmp_path: Path) -> None:
    statistics = (
        "Engine 000: Avg prompt throughput: 1.0 tokens/s, Avg generation throughput: 1.0 tokens/s, "
        "Running: 1 reqs, Waiting: 0 reqs, Preemptions: 99, GPU KV cache usage: 1.0%\n"
    )
    for order in (("log", "metrics"), ("metrics", "log")):
        texts = {"log": LOG_0_25 + statistics, "metrics": METRICS}
        paths = files(tmp_path, **{name: texts[name] for name in order})
        assert stored(tmp_path, import_vllm(paths, name="x")).counters["preemptions"] == 3


def test_files_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    paths = files(tmp_path, log=LOG_0_25, metrics=METRICS.replace('"3000"', '"4000"'))
    with pytest.raises(InputError) as raised:
        import_vllm(paths, name="x")
    assert f"{paths[1]}: says num_gpu_blocks 4000, and {paths[0]} 3000" in str(raised.value)


def test_settings_alone_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="and nothing of what it did; name its metrics"):
        import_vllm(files(tmp_path, log=LOG_0_25), name="x")


def test_a_setting_that_is_no_number_is_named_by_its_file(tmp_path: Path) -> None:
    log = LOG_0_25.replace("'num_gpu_blocks_override': 3000", "'max_num_seqs': 'many'")
    paths = files(tmp_path, log=log, metrics=METRICS)
    with pytest.raises(InputError) as raised:
        import_vllm(paths, name="x")
    assert str(raised.value) == f"{paths[0]}: max_num_seqs: 'many' is no whole number from 1"


def test_all_wrong_files_are_named_at_once(tmp_path: Path) -> None:
    paths = files(tmp_path, a="nothing\n", b="{}")
    with pytest.raises(InputError) as raised:
        import_vllm([*paths, str(tmp_path / "none")], name="x")
    assert len(raised.value.faults) == 3
