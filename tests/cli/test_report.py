"""mgnas report: of one run, and of the same run twice."""


def test_the_page_is_written_where_it_says(command, run, tmp_path):
    code, out, _ = command("report", run.path, "--output", tmp_path / "report", "--latency-seconds", "0")
    assert code == 0
    assert out == f"Report: {tmp_path / 'report' / 'report.html'}\n"
    assert (tmp_path / "report" / "report.html").exists()


def test_report_of_the_same_run_twice_is_that_of_one(command, run, tmp_path, refused):
    code, _, _ = command("report", run.path, f"{run.path}/", "--output", tmp_path / "r", "--latency-seconds", "0")
    assert code == 0
    assert (tmp_path / "r" / "curves.svg").exists()
    assert not (tmp_path / "r" / "latency.svg").exists()
    assert refused(command("report", run.path, tmp_path / "none")).startswith("mgnas: error: ")
