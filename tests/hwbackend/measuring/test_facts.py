import json

from vsim.hwbackend.measuring.facts import GpuFacts, MachineFacts

H200 = GpuFacts("NVIDIA H200", 150_000_000_000, 132, 62_914_560, (9, 0), 0, 700.0, 1980, 3201)


def test_facts_come_back_from_json_as_they_were() -> None:
    facts = MachineFacts("2026-11-27", "580.82", "13.0", (H200, H200), ((0, 1),))
    assert MachineFacts.from_json(json.loads(json.dumps(facts.as_json()))) == facts


def test_a_note_says_date_device_driver_and_cuda() -> None:
    one = MachineFacts("2026-11-27", "580.82", "13.0", (H200,), ())
    two = MachineFacts("2026-11-27", "580.82", "13.0", (H200, H200), ((0, 1),))
    assert one.note == "2026-11-27, NVIDIA H200, driver 580.82, CUDA 13.0"
    assert two.note == "2026-11-27, 2 × NVIDIA H200, driver 580.82, CUDA 13.0"
