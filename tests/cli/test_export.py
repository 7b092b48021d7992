"""mgnas export: what is printed, and one line for what cannot be done."""

import re


def test_a_network_is_exported_into_its_folder(command, run, tmp_path):
    selected, folder = tmp_path / "chosen.yaml", tmp_path / "model"
    assert command("select", run.path, "--output", selected)[0] == 0
    assert command("train", selected, "--output", folder, "--device", "cpu", "--threads", 1)[0] == 0
    code, out, _ = command("export", folder, "--to", "safetensors")
    assert code == 0
    lines = out.splitlines()
    assert re.fullmatch(rf"Wrote {folder}/model.safetensors: [\d,]+ bytes", lines[0])
    assert lines[1].startswith("Verified on 256 images: largest difference of a logit ")
    assert lines[2:] == [f"Model card: {folder / 'model_card.md'}"]


def test_impossible_exports(command, tmp_path, refused):
    refused(command("export", tmp_path / "none"), "none/model.pt: no such model")
    refused(command("export", tmp_path, "--to", "coreml"), "'--to'")
    refused(command("export", tmp_path, "--to", "safetensors", "--int8"), "--int8: quantises an ONNX network")
