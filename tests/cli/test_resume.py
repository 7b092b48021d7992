"""mgnas resume: of a run that has all its trials, or has found enough."""


def test_resume_of_a_finished_run_says_so(command, ended_run, refused, remember_latencies):
    remember_latencies(ended_run)
    line = f"{ended_run.path} has all its 7 trials; add some with --trials."
    page = ended_run.path / "report" / "report.html"
    first, second = (command("resume", ended_run.path, "--trials", 7)[1].splitlines() for _ in range(2))
    assert first == [line, f"Report: {page}"], "a driver killed at its end has not written it"
    assert page.exists()
    assert second == [line]
    refused(command("resume", ended_run.path, "--trials", 3), "--trials: 3 is less than the 7 trials")


def test_resume_of_a_run_that_has_found_enough_says_so(command, lucky_run, remember_latencies):
    remember_latencies(lucky_run)
    config = lucky_run.config.override(trials=30, until="0.5%")
    lucky_run.change_config(config)
    lucky_run.store_config()
    code, out, _ = command("resume", lucky_run.path)
    assert code == 0
    assert out.startswith(f"{lucky_run.path} has found enough with its 20 trials; go on with --until none.")
