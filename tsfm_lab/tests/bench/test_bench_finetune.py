"""What the comparison of fine-tuned models reports."""

import json

import pytest
import torch

from tsfm_lab.bench.finetune import main, naive_scores
from tsfm_lab.models import LinearForecaster
from tsfm_lab.training.adaptors import MODES


def test_rows_are_shares_of_seasonal_naive_s_by_set_and_way(tmp_path):
    torch.manual_seed(0)
    LinearForecaster(2, 4, 4).save_pretrained(tmp_path / "model")
    small = ["--steps", "4", "--windows", "2", "--context", "8", "--seeds", "0", "1", "--batch-size", "4"]
    assert main(["nile", "--model", str(tmp_path / "model"), "--output", str(tmp_path / "out.json"), *small]) == 0
    found = json.loads((tmp_path / "out.json").read_text())["model"]
    assert [(row["set"], row["mode"]) for row in found["rows"]] == [("nile", mode) for mode in MODES]
    assert {row["wql before"] for row in found["rows"]} == {found["rows"][0]["wql before"]}
    assert found["rows"][0]["lr"] == [3e-4, 3e-4]
    assert (found["steps"], found["seeds"]) == (4, [0, 1])


def test_the_seasonal_naive_forecast_of_yearly_data_repeats_the_last_value():
    scores = naive_scores("nile", 1, 4)
    assert scores["mase"] == pytest.approx(0.6, abs=0.4)
