"""The trials' command lines: without a GPU, and with arguments that make no sense."""

from collections.abc import Callable

import pytest

from vsim.hwbackend.attention import trial
from vsim.hwbackend.attention.decode import DecodeVariant
from vsim.hwbackend.attention.trial import heads_of, pairs_of, slow_of, variants_of
from vsim.hwbackend.copies import trial as copies
from vsim.hwbackend.cuda.places import device_place


@pytest.mark.parametrize("main", [trial.main, copies.main])
def test_without_a_driver_a_trial_ends_in_one_line(
    main: Callable[[list[str]], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    line = "GPU: there is no NVIDIA driver here; run it where there is one, or without --gpu\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "words",
    ["--shapes 12", "--shapes axb", "--heads 32x8", "--variants wraps=3", "--variants warps=x",
     "--slow 0.1", "--prefill 3"],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_one_line(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        trial.main(words.split())
    option, value = words.split()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"vsim.hwbackend.attention.trial: error: argument {option}: invalid")
    assert last.endswith(f"'{value}'")


def test_arguments_are_read() -> None:
    assert pairs_of("32x8192,1x5") == [(32, 8192), (1, 5)]
    assert pairs_of("none") == pairs_of("") == []
    assert heads_of("9/3x64") == (9, 3, 64)
    assert slow_of("device:1=0.04,0.07") == (device_place(1), [0.04, 0.07])
    wanted = [None, DecodeVariant(warps=8, blocks=1), DecodeVariant(early=False)]
    assert list(variants_of(";warps=8,blocks=1;early=0")) == wanted
