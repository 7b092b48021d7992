"""mgnas train: a selected network, trained once."""

import re
import subprocess
import sys

import torch


def test_a_selected_network_is_trained_once(command, run, tmp_path):
    output, folder = tmp_path / "chosen.yaml", tmp_path / "model"
    assert command("select", run.path, "--output", output)[0] == 0
    code, out, _ = command("train", output, "--output", folder, "--device", "cpu", "--threads", 1)
    assert code == 0
    assert re.search(r"test accuracy \d+\.\d\d % on 360 images", out)
    assert re.search(r"balanced accuracy \d+\.\d\d %; the largest class, \d, is 10\.28 % of these images", out)
    assert (folder / "model.pt").exists()
    code, _, err = command("train", output, "--output", folder)
    assert code == 2
    assert err == f"mgnas: error: {folder}: holds a trained model already; choose another folder with --output\n"


def test_a_device_that_is_not_there_is_refused(command, run, tmp_path, monkeypatch, refused):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    output = tmp_path / "chosen.yaml"
    assert command("select", run.path, "--output", output)[0] == 0
    refused(command("train", output, "--device", "cuda"), "--device cuda", "use --device cpu")


def test_precision_and_execution_reach_the_training(command, run, tmp_path, refused):
    output, folder = tmp_path / "chosen.yaml", tmp_path / "model"
    assert command("select", run.path, "--output", output)[0] == 0
    refused(command("train", output, "--precision", "int8"), "--precision", "'bfloat16'")
    how = ["--device", "cpu", "--threads", 1, "--precision", "bfloat16", "--execution", "eager"]
    assert command("train", output, "--output", folder, *how)[0] == 0
    plain = tmp_path / "plain"
    assert command("train", output, "--output", plain, "--device", "cpu", "--threads", 1)[0] == 0
    half, single = (torch.load(path / "model.pt", weights_only=True) for path in (folder, plain))
    assert str(half) != str(single), "other roundings give other weights"


def test_a_gpu_that_is_not_used_is_one_line(command, run, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100")
    output = tmp_path / "chosen.yaml"
    assert command("select", run.path, "--output", output)[0] == 0
    code, out, _ = command("train", output, "--output", tmp_path / "model", "--device", "cpu", "--threads", 1)
    assert code == 0
    assert out.startswith("The GPU (NVIDIA H100) is not used; --device cuda uses it.\n")
    assert "epochs on the CPU\n" in out


def test_two_processes_do_not_train_in_one_folder(command, run, tmp_path):
    selected, folder = tmp_path / "chosen.yaml", tmp_path / "model"
    assert command("select", run.path, "--output", selected)[0] == 0
    script = f"""
import sys
from pathlib import Path
from mgnas.reports.deploy.final_training import FinalTraining, train_fully
def wait(epoch):
    print("trained", flush=True)
    sys.stdin.read()
train_fully(FinalTraining.load({str(selected)!r}), Path({str(folder)!r}), "cpu", wait)
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout.readline() == "trained\n"
        code, _, err = command("train", selected, "--output", folder, "--device", "cpu", "--threads", 1)
        first.stdin.close()
        assert first.wait() == 0
    assert code == 2
    assert err.startswith(f"mgnas: error: {folder}: another process is training here already; wait for it")
    assert err.count("\n") == 1
    assert {file.name for file in folder.iterdir()} == {"model.pt", "model_card.md", "result.json", "task.yaml"}
