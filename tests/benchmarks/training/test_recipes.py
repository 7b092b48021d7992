"""benchmarks/training/recipes.py: what is trained, resumed and compared."""

import json

import numpy as np
import pytest
import recipes


@pytest.fixture
def run(tmp_path, capsys):
    """Call the script on digits with one small epoch; further options win. Returns (exit code, output, errors)."""

    def call(*more):
        small = ["--data", "digits", "--networks", "small", "--epochs", "1", "--images", "60", "40", "--seeds", "2"]
        code = recipes.main([*small, "--recipes", "trivial", "--out", str(tmp_path / "out.jsonl"), *map(str, more)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def rows(tmp_path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]


def without_time(row: dict) -> dict:
    return {key: value for key, value in row.items() if key != "seconds"}


def options(*more):
    return recipes.parse(["--out", "unused", *more])


@pytest.mark.parametrize("data", recipes.TASKS)
@pytest.mark.parametrize("network", ["small", "large"])
def test_every_default_recipe_differs_from_all_others(data, network):
    made = [recipes.make_job(data, network, name, 0, options()).training for name in recipes.DEFAULT_RECIPES]
    # Digits are not mirrored, and nothing else makes two recipes equal.
    assert len(set(map(str, made))) == len(recipes.DEFAULT_RECIPES)


def test_a_recipe_is_the_sum_of_its_parts():
    training = recipes.make_job("cifar10", "large", "adamw+trivial+ema", 3, options("--epochs", "7")).training
    assert (training.optimizer, training.augmentation, training.ema_decay) == ("adamw", "trivial", 0.99)
    assert (training.epochs, training.crop_padding, training.flip) == (7, 2, True)
    sizes = [recipes.make_job(data, "small", "cutout", 3, options()).training.cutout for data in ("digits", "cifar10")]
    assert sizes == [2, 4]


def test_images_to_measure_on_are_not_trained_on(run, tmp_path):
    assert run()[0] == 0
    assert {(row["training_images"], row["measured_images"]) for row in rows(tmp_path)} == {(60, 40)}


def test_an_interrupted_comparison_goes_on_with_what_is_missing(run, tmp_path):
    code, output, _ = run("--minutes", "0")
    assert code == 0
    assert "3 trainings are left" in output
    assert len(rows(tmp_path)) == 1
    with (tmp_path / "out.jsonl").open("a") as file:
        file.write('{"job": {"data": "dig')  # what a killed process leaves
    _, output, _ = run()
    assert output.count("seed") == 3
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert len(lines) == 5
    whole = tmp_path / "whole"
    whole.mkdir()
    run("--out", whole / "out.jsonl")
    finished = [json.loads(line) for line in lines if line.endswith("}")]
    assert [without_time(row) for row in finished] == [without_time(row) for row in rows(whole)]
    assert "seed" not in run()[1]


def test_other_settings_are_other_trainings(run, tmp_path):
    run()
    run("--epochs", "2")
    assert len(rows(tmp_path)) == 8
    assert sorted(row["job"]["training"]["epochs"] for row in rows(tmp_path)) == [1] * 4 + [2] * 4


def test_the_table_of_what_is_there_can_be_shown_alone(run, tmp_path):
    _, output, _ = run()
    table = output[output.index("| data") :]
    before = (tmp_path / "out.jsonl").read_bytes()
    assert run("--show", "--seeds", "9") == (0, table, "")
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_cifar10_is_read_from_a_file_and_reduced(run, tmp_path):
    arrays = {}
    for part, count in (("train", 100), ("test", 20)):
        images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays |= {f"{part}_images": images, f"{part}_labels": np.arange(count) % 10}
    np.savez(tmp_path / "cifar10.npz", **arrays)
    code, _, _ = run("--data", "cifar10", "--data-cifar10", tmp_path / "cifar10.npz", "--seeds", "1", "--epochs", "2")
    assert code == 0
    for row in rows(tmp_path):
        assert row["job"]["images"]["image_size"] == 16
        assert "path" not in row["job"]["images"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--recipes", "trivial+emma"), "error: --recipes: unknown part 'emma' of 'trivial+emma'; there are plain, "),
        (("--epochs", "-1"), "error: standard.epochs: "),
        (("--data", "cifar10", "--data-cifar10", "missing.npz", "--epochs", "2"), "error: missing.npz: "),
    ],
)
def test_bad_options_are_one_line(run, tmp_path, more, message):
    code, _, errors = run(*more)
    assert code == 1
    assert errors.startswith(message)
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out.jsonl").exists()


# ------------------------------------------------------------------------------------------------------------ the table


def line(recipe: str, seed: int, accuracy: float | None, epochs: int = 5) -> dict:
    job = {"data": "digits", "network": "small", "recipe": recipe, "seed": seed}
    job |= {"architecture": {}, "training": {"epochs": epochs, "recipe": recipe}, "images": {}}
    return {"job": job, "accuracy": accuracy, "seconds": 2.0, "weights": 1234}


def test_recipes_are_compared_seed_by_seed():
    found = [line("standard", seed, accuracy) for seed, accuracy in enumerate((0.80, 0.90, 0.70))]
    # Better by 2, 4 and 6 points: 4 on the mean, a deviation of 2, and an error of 2 / sqrt(3) = 1.15.
    found += [line("mixup", seed, accuracy) for seed, accuracy in enumerate((0.82, 0.94, 0.76))]
    best, standard = recipes.summary(found)
    assert (best["recipe"], best["n"], best["mean"], best["sd"]) == ("mixup", 3, "84.00", "9.17")
    assert best["difference"] == "+4.00 +- 1.15"
    assert (standard["mean"], standard["sd"], standard["difference"]) == ("80.00", "10.00", "")
    assert best["network"] == "small, 1,234 weights"


def test_only_seeds_of_both_are_compared_and_divergence_is_counted():
    found = [line("standard", 0, 0.5), line("standard", 1, 0.7)]
    found += [line("adamw", 1, 0.6), line("adamw", 2, 0.9), line("adamw", 0, None)]
    (adamw,) = [row for row in recipes.summary(found) if row["recipe"] == "adamw"]
    assert (adamw["n"], adamw["mean"], adamw["difference"], adamw["diverged"]) == (2, "75.00", "-10.00", 1)


def test_trainings_of_other_lengths_are_not_compared():
    found = [line("standard", 0, 0.5, epochs=5), line("ema", 0, 0.9, epochs=10)]
    assert [row["difference"] for row in recipes.summary(found)] == ["", ""]
