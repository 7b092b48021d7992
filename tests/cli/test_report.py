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


def test_a_report_is_not_written_through_a_link_of_the_run(command, run, tmp_path, refused):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "report.html").write_text("mine")
    (run.path / "report").symlink_to(tmp_path / "elsewhere")
    refused(command("report", run.path), f"{run.path / 'report'}: is a link, which may lead out of the run")
    assert [(file.name, file.read_text()) for file in (tmp_path / "elsewhere").iterdir()] == [("report.html", "mine")]
