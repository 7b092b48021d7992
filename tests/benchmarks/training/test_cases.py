"""benchmarks/training/cases.py: what the benchmarks of training share."""

import json

from cases import make_parser, measure_all


def test_a_measurement_that_fails_is_a_line_and_the_others_go_on(tmp_path):
    def fail():
        raise ValueError("does not fit\nat all")

    options = make_parser("Test.").parse_args(["--threads", "1", "--output", str(tmp_path / "out")])
    jobs = {"first": fail, "second": lambda: {"case": "second", "images/s": 3.0}}
    assert measure_all(jobs, options) == 1
    rows = json.loads((tmp_path / "out.json").read_text())["results"]
    assert rows == [{"case": "first", "failure": "ValueError: does not fit"}, {"case": "second", "images/s": 3.0}]
    table = (tmp_path / "out.md").read_text().splitlines()[:4]
    assert table == [
        "| case | failure | images/s |",
        "| --- | --- | --- |",
        "| first | ValueError: does not fit |  |",
        "| second |  | 3.0 |",
    ]


def test_without_a_failure_the_exit_status_is_0(capsys):
    options = make_parser("Test.").parse_args(["--threads", "1"])
    assert measure_all({"only": lambda: {"case": "only"}}, options) == 0
    assert "| only |" in capsys.readouterr().out
