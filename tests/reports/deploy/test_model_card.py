import json

import pytest

from mgnas.errors import UserError
from mgnas.reports.deploy.model_card import note_export, read_exports, read_result, write_card


def test_the_card_says_what_was_measured(folder):
    result, card = read_result(folder), write_card(folder).read_text()
    assert f"| test accuracy | {100 * result['test_accuracy']:.2f} % on 360 images, measured once |" in card
    assert f"| weights | {result['weights']:,} |" in card
    assert 'model = mgnas.load("model")' in card
    assert "There were no test images" not in card


def test_the_card_says_what_memory_an_inference_needs(folder):
    result = read_result(folder)
    single, int8 = result["memory"]["float32"], result["memory"]["int8"]
    assert single["activations"] == 4 * int8["activations"]
    row = f"{single['activations']:,} bytes of activations at most, {single['flash']:,} bytes of flash |"
    assert f"| memory of one image in float32 | {row}" in write_card(folder).read_text()
    del result["memory"]
    (folder / "result.json").write_text(json.dumps(result))  # as version 0.1.0 wrote it
    assert "memory" not in write_card(folder).read_text()


def test_the_card_says_how_much_the_largest_class_alone_gives(folder):
    result = read_result(folder)
    result |= {"test_balanced_accuracy": 0.5, "largest_class": {"name": "a|b\n<i>", "share": 0.99}}
    (folder / "result.json").write_text(json.dumps(result))
    card = write_card(folder).read_text()
    assert "| balanced test accuracy | 50.00 %, the mean over the classes |" in card
    assert "| largest class | a\\|b &lt;i>, 99.00 % of the test images |" in card


def test_a_card_remembers_what_all_seeds_gave(folder):
    write_card(folder, {"seeds": 3, "mean": 0.912, "spread": 0.0045})
    line = "| test accuracy over 3 seeds | 91.20 % +- 0.45 (standard deviation) |"
    assert line in write_card(folder).read_text()
    (folder / "spread.json").write_text("[]")
    with pytest.raises(UserError, match=r"spread\.json: is damaged; delete it"):
        write_card(folder)


def test_exports_are_noted_one_by_one(folder):
    assert read_exports(folder) == {}
    facts = {"file": "model.onnx", "size": 12345, "difference": 2e-6, "images": 256}
    note_export(folder, "onnx", facts)
    note_export(folder, "int8", {"words": "int8: what happened"})
    assert read_exports(folder) == {"onnx": facts, "int8": {"words": "int8: what happened"}}
    card = (folder / "model_card.md").read_text()
    assert "| model.onnx | 12,345 | largest difference of a logit 2.0e-06 on 256 images |" in card
    assert "\nint8: what happened.\n" in card


def test_without_test_images_the_card_says_so(folder):
    result = read_result(folder)
    for key in ("accuracy", "images"):
        result[f"validation_{key}"] = result.pop(f"test_{key}")
    (folder / "result.json").write_text(json.dumps(result))
    card = write_card(folder).read_text()
    assert "| validation accuracy |" in card
    assert "There were no test images" in card


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file; train the network with"), ("{", "is damaged; train"), ("[]", "is damaged; train")],
)
def test_a_folder_without_a_result_is_refused(folder, content, message):
    (folder / "result.json").unlink() if content is None else (folder / "result.json").write_text(content)
    with pytest.raises(UserError, match=f"result.json: {message}"):
        read_result(folder)
