"""The trial of random mappings passes where the driver is right and says so where it is not."""

import re
import subprocess
import sys

import pytest
from tests.hwbackend.fake.control import INVALID_VALUE, OUT_OF_MEMORY, Fake

from vsim.hwbackend.memory import trial

MiB = 1 << 20


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real driver keeps what it made at first; this one keeps nothing."""
    monkeypatch.setattr(trial, "_WARM_UP", 2)


def test_random_sequences_hold_their_pages_and_give_all_memory_back(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trial.main(["--sequences", "20", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    for done in ("map", "grow", "remap", "unmap", "write", "drain"):
        assert re.search(rf"^{done} +[1-9]", out, re.MULTILINE), out
    for source in ("device:0", "device:1", "host:0"):
        for target in ("device:0", "device:1", "host:0"):
            assert re.search(rf"^moved {source} to {target} +[1-9]", out, re.MULTILINE), out
    assert out.splitlines()[-1] == "every page held what was written there, and all memory is back"


def test_the_same_seed_does_the_same(fake: Fake) -> None:
    first, second = (trial.run(5, 7, 0, 2 * MiB) for _ in range(2))
    other = trial.run(5, 8, 0, 2 * MiB)
    assert (first.done, first.moved) == (second.done, second.moved)
    assert other.moved != first.moved


def test_a_page_that_was_not_copied_is_a_fault(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = trial.copy

    def forgetful(target: int, source: int, size: int, stream: trial.Stream) -> None:
        if fake.calls(fake.call_count() - 1) == ["cuMemSetAccess"]:
            size //= 2  # of a page that moves, the latter half
        real(target, source, size, stream)

    monkeypatch.setattr(trial, "copy", forgetful)
    assert trial.main(["--sequences", "20"]) == 1
    error = capsys.readouterr().err
    assert re.match(
        r"fault: page \d+ on (device|host):\d: [\d,]+ of 262,144 words are wrong", error
    )


def test_unmapping_without_waiting_is_a_fault(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial.Event, "synchronize", lambda _: None)
    assert trial.main(["--sequences", "20"]) == 1
    assert "fault: " in capsys.readouterr().err
    fake.reset()


@pytest.mark.parametrize("call", ["cuMemMap", "cuMemSetAccess", "cuMemUnmap", "cuMemcpyAsync"])
def test_a_call_that_fails_is_a_fault_that_names_it(
    fake: Fake, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    fake.fail(call, 30, INVALID_VALUE)
    assert trial.main(["--sequences", "20"]) == 1
    error = capsys.readouterr().err
    assert re.match(
        rf"fault: {call} of [\d,]+ bytes.* failed: CUDA_ERROR_INVALID_VALUE \(1\)", error
    )


def test_memory_that_does_not_come_back_is_a_fault(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pools = []

    def leaky(self: trial.Trial) -> None:
        pools.append(trial.ChunkPool(trial.devices()[1].place, 2 * MiB))
        pools[-1].take()
        self._held.close()

    monkeypatch.setattr(trial.Trial, "close", leaky)
    assert trial.main(["--sequences", "2"]) == 1
    shown = capsys.readouterr()
    assert "not all memory came back" in shown.err
    assert re.search(r"not given back by device:1 +2,097,152 bytes", shown.out)
    for pool in pools:
        pool.close()


def test_it_ends_as_a_fault_where_there_is_no_room(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.limit("host:0", 4 * MiB)
    assert trial.main(["--sequences", "20"]) == 1
    assert f"CUDA_ERROR_OUT_OF_MEMORY ({OUT_OF_MEMORY})" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_refused(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.main(["--device", "5"]) == 2
    assert "GPU: there is no GPU 5; this machine has 2, from 0 on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--sequences", "0"), ("--seed", "-1"), ("--chunk-bytes", "2MiB")]
)
def test_a_number_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        trial.main([f"{option}={value}"])
    assert f"argument {option}: '{value}' is not a whole number from " in capsys.readouterr().err


def test_it_needs_none_of_the_simulator_and_no_other_package() -> None:
    code = (
        "import sys, vsim.hwbackend.memory.trial\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "print(names & {'pydantic', 'simpy', 'torch', 'scipy', 'pyarrow', 'numba'},"
        " [n for n in sys.modules if n.startswith('vsim.sim')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set() []\n"
