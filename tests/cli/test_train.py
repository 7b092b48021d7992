"""mgnas train: a selected network, trained once."""

import re


def test_a_selected_network_is_trained_once(command, run, tmp_path):
    output, folder = tmp_path / "chosen.yaml", tmp_path / "model"
    assert command("select", run.path, "--output", output)[0] == 0
    code, out, _ = command("train", output, "--output", folder, "--device", "cpu", "--threads", 1)
    assert code == 0
    assert re.search(r"test accuracy \d+\.\d\d % on 360 images", out)
    assert (folder / "model.pt").exists()
    code, _, err = command("train", output, "--output", folder)
    assert code == 2
    assert err == f"mgnas: error: {folder}: holds a trained model already; choose another folder with --output\n"


def test_a_device_that_is_not_there_is_refused(command, run, tmp_path, monkeypatch, refused):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    output = tmp_path / "chosen.yaml"
    assert command("select", run.path, "--output", output)[0] == 0
    refused(command("train", output, "--device", "cuda"), "--device cuda", "use --device cpu")
