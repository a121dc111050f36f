"""A training that is killed with signal 9 ends as an undisturbed one; `python tests/faults.py` kills 20 times."""

import json
from pathlib import Path

import faults

KEPT = Path(__file__).resolve().parents[1] / "nbs" / "results" / "faults.json"


def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path):
    found = faults.run(2, tmp_path)
    expected = {"kills": 2, "steps": faults.STEPS, "same": True, "left": []}
    assert expected.items() <= found.items()
    assert found["while_writing"] >= 1


def test_what_is_kept_is_a_run_of_20_kills():
    kept = json.loads(KEPT.read_text())
    assert kept["kills"] >= 20 and kept["while_writing"] >= 10 and kept["same"] and kept["left"] == []


def test_a_difference_of_one_bit_would_be_seen():
    import torch
    one = {"model": {"weight": torch.ones(3)}, "history": {"loss": [1., .5]}}
    other = {"model": {"weight": torch.tensor([1, 1, 1 + 1e-7])}, "history": {"loss": [1., .5]}}
    assert faults.same(one, one) and not faults.same(one, other)
    assert not faults.same(one, one | {"history": {"loss": [1., .5000001]}})
