"""A search whose trials all diverge, through Ray: its end says why there is nothing to choose."""

import pytest


@pytest.mark.slow
def test_a_search_that_diverges_names_the_setting(command, search_file, tmp_path):
    training = {"epochs": 1, "batch_size": 256, "learning_rate": 1e30}
    config = search_file(training=training, search={"sampler": "random", "trials": 2})
    code, out, _ = command("search", config, "--runs", tmp_path / "runs", "--gpus-per-trial", 0)
    assert code == 1
    last = out.splitlines()[-1]
    why = "o trial of this run is complete: all 2 trials failed, all because the loss became nan in epoch 1"
    assert last.startswith(f"N{why}; lower training.learning_rate")
    assert "Choose:" not in out
    code, out, err = command("select", tmp_path / "runs" / "small-1", "--output", tmp_path / "chosen.yaml")
    assert (code, out) == (2, "")
    assert err.startswith(f"mgnas: error: n{why}")
    code, out, _ = command("resume", tmp_path / "runs" / "small-1")
    assert code == 0
    assert f"N{why}" in out
