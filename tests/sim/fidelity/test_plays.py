"""Plays move arrivals by a little, and a request's prediction is the median of them."""

from pathlib import Path

import numpy as np

from vsim.sim.fidelity.plays import MOVED_NS, PLAYS, expected_ns, moved
from vsim.sim.fidelity.prediction import predict
from vsim.sim.fidelity.recording import read_recording

from .tiny import write_recording


def test_arrivals_keep_their_order_and_move_by_little(tmp_path: Path) -> None:
    run = read_recording(write_recording(tmp_path / "run.arrow"), "recorded")
    requests = run.repeats[0].requests
    plays = [each.arrival_ns for each in moved(requests)]
    assert len(plays) == PLAYS - 1
    for arrival_ns in plays:
        assert (np.diff(arrival_ns) >= 0).all()
        assert (arrival_ns >= 0).all()
        assert np.abs(arrival_ns - requests.arrival_ns).max() <= MOVED_NS
        assert not np.array_equal(arrival_ns, requests.arrival_ns)
    again = [each.arrival_ns for each in moved(requests)]
    np.testing.assert_array_equal(plays, again)


def test_the_median_is_taken_of_each_request() -> None:
    latencies = [np.array(each) for each in ([1, 9, 5], [2, 8, 5], [30, 7, 4])]
    assert expected_ns(latencies).tolist() == [2, 8, 5]


def test_a_prediction_arrives_when_requests_did_and_ends_in_order(tmp_path: Path) -> None:
    run = read_recording(write_recording(tmp_path / "run.arrow"), "recorded")
    for repeat, found in zip(run.repeats, predict(run), strict=True):
        np.testing.assert_array_equal(found.arrival_ns, repeat.requests.arrival_ns)
        assert (found.first_token_ns > found.arrival_ns).all()
        assert (found.last_token_ns >= found.first_token_ns).all()
