import pytest

from vsim.hwbackend.measuring.board import Board, BoardSample


def watched(*samples: BoardSample) -> Board:
    board = Board("no such bus id")
    with board:
        board.samples.extend(samples)
    return board


def test_without_nvml_a_board_watches_nothing_and_says_so() -> None:
    board = watched()
    load = board.load()
    assert not board.available
    assert (load.samples, load.watts, load.sm_mhz, load.joules) == (0, 0.0, 0, None)
    assert load.seconds >= 0
    with pytest.raises(RuntimeError, match="NVML"):
        board.look()


def test_a_load_is_the_mean_power_and_the_median_clock_of_its_samples() -> None:
    late = 1 << 62
    load = watched(
        BoardSample(late, 1980, 100.0),
        BoardSample(late, 1500, 700.0),
        BoardSample(late, 1500, 700.0),
        BoardSample(0, 210, 70.0),  # before the watch began: not part of it
    ).load()
    assert load.samples == 3
    assert load.watts == 500.0
    assert (load.most_watts, load.sm_mhz, load.least_sm_mhz) == (700.0, 1500, 1500)
