"""benchmarks/training/latency_model.py: each network is measured once, and the table has the errors of its space."""

import json

import latency_model
import pytest

CONFIG = """
data: {name: digits}
space:
  fixed: {family: mgnet}
  parameters: {base_channels: [[4], [8], [4, 8], [8, 8], [8, 16]], smoothing_steps: {low: 1, high: 3}}
"""


def test_networks_are_measured_once(tmp_path, capsys, monkeypatch):
    (tmp_path / "small.yaml").write_text(CONFIG)
    out = tmp_path / "out.jsonl"
    arguments = ["--configs", str(tmp_path / "small.yaml"), "--networks", "5", "--seconds", "0.01", "--out", str(out)]
    monkeypatch.setattr(latency_model, "milliseconds", lambda candidate, seconds: candidate.weights / 1e3)
    assert latency_model.main(arguments) == 0
    first = capsys.readouterr().out
    assert len({json.loads(line)["network"] for line in out.read_text().splitlines()}) == 5
    assert "| small | 5 |" in first

    monkeypatch.setattr(latency_model, "milliseconds", lambda candidate, seconds: pytest.fail("measured again"))
    assert latency_model.main(arguments) == 0
    assert capsys.readouterr().out == first


def test_a_real_measurement_is_a_time(tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(CONFIG)
    out = tmp_path / "out.jsonl"
    latency_model.main(
        ["--configs", str(tmp_path / "small.yaml"), "--networks", "3", "--seconds", "0.01", "--out", str(out)]
    )
    assert all(0 < json.loads(line)["ms"] < 1000 for line in out.read_text().splitlines())
    assert "One thread of " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--networks", "1"], "--networks: expected at least 2"), ([], "out.jsonl: is damaged")]
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, words):
    (tmp_path / "out.jsonl").write_text('{"config": ')
    assert latency_model.main(["--out", str(tmp_path / "out.jsonl"), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
