import pytest

from vsim.hwbackend.measuring import samples
from vsim.hwbackend.measuring.samples import (
    LONG_US,
    MOST_CALLS,
    Samples,
    call_us,
    calls_for,
    copies_beyond,
    rotating,
)


def test_a_figure_is_the_median_with_its_least_and_most() -> None:
    taken = Samples((5.0, 1.0, 3.0))
    assert (taken.median_us, taken.least_us, taken.most_us) == (3.0, 1.0, 5.0)
    assert taken.spread == pytest.approx(4 / 3)


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Samples(())


def test_a_call_is_warmed_up_before_it_counts() -> None:
    calls: list[int] = []
    taken = call_us(lambda: calls.append(1), repeats=4, warm_ups=2)
    assert len(calls) == 6
    assert len(taken.all_us) == 4
    assert taken.least_us >= 0


@pytest.mark.parametrize(
    ("once_us", "calls"),
    [(0.0, MOST_CALLS), (1.0, MOST_CALLS), (LONG_US / 2, 2), (LONG_US, 1), (1e9, 1)],
)
def test_short_work_is_repeated_in_a_graph_and_long_work_is_not(once_us: float, calls: int) -> None:
    assert calls_for(once_us) == calls


def test_operands_rotate_until_four_caches_would_not_hold_them() -> None:
    assert copies_beyond(50, 100) == 2
    assert copies_beyond(50, 1) == 16
    assert copies_beyond(50, 1000) == 1


def test_rotated_work_takes_turns() -> None:
    done: list[str] = []
    work = rotating([lambda stream: done.append("a"), lambda stream: done.append("b")])
    for _ in range(3):
        work(None)  # type: ignore[arg-type]  # the works here look at no stream
    assert done == ["a", "b", "a"]


def test_a_hot_gpu_rests_before_each_sample_and_not_before_what_warms_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[object] = []

    class Clock:
        def __init__(self, *, timing: bool) -> None: ...
        def __enter__(self) -> "Clock":
            return self

        def __exit__(self, *_: object) -> None: ...
        def record(self, stream: object) -> None: ...
        def synchronize(self) -> None: ...
        def us_since(self, other: object) -> float:
            return 7.0

    class Idle:
        def synchronize(self) -> None: ...

    monkeypatch.setattr(samples, "Event", Clock)
    monkeypatch.setattr(samples.time, "sleep", done.append)
    work = lambda stream: done.append("work")  # noqa: E731  # its name says nothing more
    taken = samples.stream_us(work, Idle(), 2, warm_ups=1, rest_s=0.03)  # type: ignore[arg-type]  # no GPU
    assert done == ["work", 0.03, "work", 0.03, "work"]
    assert taken.all_us == (7.0, 7.0)
