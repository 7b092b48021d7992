"""benchmarks/training/steps.py: a step's file. How steps run is tested with benchmarks/gpu.py."""

from steps import Context, read_rows


def test_the_last_line_of_a_job_counts_and_one_that_was_cut_does_not(tmp_path):
    path = tmp_path / "step.jsonl"
    path.write_text(
        '{"job": "a", "begun": true}\n{"job": "a", "value": 1}\n{"job": "b", "begun": true}\n{"job": "b", "val'
    )
    assert read_rows(path) == ({"a": {"job": "a", "value": 1}, "b": {"job": "b", "begun": True}}, None)


def test_what_a_job_has_written_is_read(tmp_path):
    path = tmp_path / "step.jsonl"
    Context("cpu", True, None, "", 0.0, path).write("a", {"value": [1, 2]})
    with path.open("a") as file:
        file.write('{"step": "step", "status": "done", "seconds": 1.0}\n')
    rows, end = read_rows(path)
    assert rows == {"a": {"job": "a", "value": [1, 2]}}
    assert end == {"step": "step", "status": "done", "seconds": 1.0}


def test_a_step_that_has_not_begun_has_no_rows(tmp_path):
    assert read_rows(tmp_path / "step.jsonl") == ({}, None)
