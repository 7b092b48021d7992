"""The YAML file of a search: what it may say, what it means, and how mistakes are named."""

import pytest

from mgnas.errors import ConfigError, UserError
from mgnas.files import write_yaml
from mgnas.search.config import Focus, Resources, SearchConfig, SearchSettings, Until
from mgnas.search.data.dataset import DataSettings
from mgnas.space import TrainingSettings


@pytest.fixture
def problem(search_file, refusal):
    """Sections -> what is wrong with a file that has them, without the file's name in front."""

    def of(sections, use=lambda config: config) -> str:
        path = search_file(**sections)
        message = refusal(lambda: use(SearchConfig.load(path)))
        assert message.startswith(f"{path}: ")
        return message.removeprefix(f"{path}: ")

    return of


# ------------------------------------------------------------------------------------------------------------ meanings


def test_a_minimal_search_has_the_defaults(search_file):
    path = search_file("tiny.yaml", name=None, training=None, search=None)
    config = SearchConfig.load(path)
    assert config.name == "tiny"
    assert config.file == str(path)
    assert config.data == DataSettings(name="digits")
    assert config.training == config.final_training == TrainingSettings()
    assert config.search == SearchSettings()
    assert config.resources == Resources()


def test_empty_sections_have_the_defaults(search_file):
    path = search_file()
    path.write_text(
        "data: {name: digits}\nspace: {}\ntraining:\nsearch: {}\nresources:\nfinal_training:\n", encoding="utf-8"
    )
    config = SearchConfig.load(path)
    assert (config.training, config.search, config.resources) == (TrainingSettings(), SearchSettings(), Resources())


def test_final_training_changes_what_it_names_of_the_trials_recipe(small_search):
    recipe = {"epochs": 5, "batch_size": 32, "learning_rate": 0.2, "flip": True}
    config = small_search(training=recipe, final_training={"epochs": 50, "label_smoothing": 0.1})
    assert config.training == TrainingSettings(**recipe)
    assert config.final_training == TrainingSettings(**recipe | {"epochs": 50, "label_smoothing": 0.1})


def test_final_training_is_the_trials_recipe_unless_it_is_given(small_search):
    config = small_search(training={"epochs": 5, "momentum": 0.8})
    assert config.final_training == config.training


def test_the_space_is_fitted_to_the_data(small_search):
    candidate = next(small_search().search_space().enumerate())
    assert (candidate.architecture.num_classes, candidate.architecture.in_channels) == (10, 1)
    assert candidate.image_size == 8
    assert candidate.training.epochs == 2


def test_the_space_is_fitted_to_a_users_file(small_search, write_npz, numbered):
    train = numbered([5, 5, 5], size=16, channels=3)
    path = write_npz(train_images=train.images, train_labels=train.labels)
    config = small_search(data={"name": "npz", "path": path, "image_size": 8})
    candidate = next(config.search_space().enumerate())
    assert (candidate.architecture.num_classes, candidate.architecture.in_channels) == (3, 3)
    assert candidate.image_size == 8


def test_plain_values_are_read_back_equal(small_search, tmp_path):
    config = small_search(final_training={"epochs": 9, "weight_decay": 1e-7})
    write_yaml(tmp_path / "small.yaml", config.to_dict())
    assert SearchConfig.load(tmp_path / "small.yaml") == config


# ------------------------------------------------------------------------------------------------------------ override


def test_override_changes_single_settings_and_nothing_else(small_search):
    config = small_search(search={"sampler": "nsga2", "trials": 5, "seed": 3})
    changed = config.override(trials=9, workers=2, path=None)
    assert changed.search == SearchSettings(sampler="nsga2", trials=9, seed=3)
    assert changed.resources == Resources(workers=2)
    assert (changed.data, changed.training, changed.name) == (config.data, config.training, config.name)
    assert config.search.trials == 5


def test_override_with_nothing_changes_nothing(small_search):
    config = small_search()
    assert config.override(trials=None, workers=None) == config


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"trials": 0}, "search.trials"),
        ({"cpus_per_trial": -1}, "resources.cpus_per_trial"),
        ({"path": "x"}, "data.path"),
    ],
)
def test_override_checks_what_it_is_given(small_search, changes, key):
    config = small_search()
    with pytest.raises(ConfigError) as caught:
        config.override(**changes)
    assert caught.value.key == key


# ------------------------------------------------------------------------------------------------------------ mistakes

SPACE = {"fixed": {"family": "mgnet", "base_channels": [4]}, "parameters": {"smoothing_steps": [1, 2]}}


@pytest.mark.parametrize(
    ("sections", "key", "meant"),
    [
        ({"trainings": {}}, "trainings", "training"),
        ({"data": {"name": "digits", "validation_frac": 0.1}}, "data.validation_frac", "validation_fraction"),
        ({"training": {"epoch": 3}}, "training.epoch", "epochs"),
        ({"search": {"trial": 3}}, "search.trial", "trials"),
        ({"resources": {"worker": 3}}, "resources.worker", "workers"),
        ({"final_training": {"batchsize": 3}}, "final_training.batchsize", "batch_size"),
        ({"space": SPACE | {"limit": {}}}, "space.limit", "limits"),
        ({"space": SPACE | {"fixed": {"familly": "mgnet"}}}, "space.fixed.familly", "family"),
        (
            {"space": SPACE | {"parameters": {"smoothing_step": [1]}}},
            "space.parameters.smoothing_step",
            "smoothing_steps",
        ),
        ({"space": SPACE | {"limits": {"max_weight": 9}}}, "space.limits.max_weight", "max_weights"),
        (
            {"space": SPACE | {"parameters": {"smoothing_steps": {"low": 1, "high": 2, "steps": 1}}}},
            "space.parameters.smoothing_steps.steps",
            "step",
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_one_that_was_meant(problem, sections, key, meant):
    said = problem(sections, use=SearchConfig.search_space)
    assert said in (f"{key}: unknown key; did you mean {meant}?", f"{key}: unknown key; known keys: {meant}")


def test_an_unknown_key_like_no_other_is_answered_with_all(problem):
    expected = "known keys: data, final_training, name, resources, search, space, training"
    assert problem({"colour": "blue"}) == f"colour: unknown key; {expected}"


def test_a_misspelt_required_key_is_named(problem):
    assert problem({"data": {"nam": "digits"}}) == "data.nam: unknown key; did you mean name?"


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"data": "digits"}, "data"),
        ({"data": {}}, "data.name"),
        ({"data": {"name": "mnist"}}, "data.name"),
        ({"data": {"name": "digits", "validation_fraction": 1}}, "data.validation_fraction"),
        ({"data": {"name": "digits", "validation_fraction": "0.2"}}, "data.validation_fraction"),
        ({"data": {"name": "digits", "image_size": 4}}, "data.image_size"),
        ({"data": {"name": "digits", "train_images": 0}}, "data.train_images"),
        ({"data": {"name": "npz"}}, "data.path"),
        ({"data": {"name": "digits", "path": "x"}}, "data.path"),
        ({"training": ["epochs"]}, "training"),
        ({"training": {"epochs": "20"}}, "training.epochs"),
        ({"training": {"epochs": 20.0}}, "training.epochs"),
        ({"training": {"epochs": True}}, "training.epochs"),
        ({"training": {"epochs": None}}, "training.epochs"),
        ({"training": {"batch_size": 1}}, "training.batch_size"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate"),
        ({"training": {"weight_decay": float("nan")}}, "training.weight_decay"),
        ({"training": {"momentum": 1.0}}, "training.momentum"),
        ({"training": {"flip": 1}}, "training.flip"),
        ({"training": {"epochs": 2, "warmup_epochs": 3}}, "training.warmup_epochs"),
        ({"search": {"sampler": "grid"}}, "search.sampler"),
        ({"search": {"trials": 0}}, "search.trials"),
        ({"search": {"seed": -1}}, "search.seed"),
        ({"search": 5}, "search"),
        ({"search": {"focus": {}}}, "search.focus"),
        ({"search": {"focus": {"max_weights": "many"}}}, "search.focus.max_weights"),
        ({"search": {"focus": {"max_weights": "20k", "min_weights": "20k"}}}, "search.focus.min_weights"),
        *(({"search": {"focus": {"min_accuracy": share}}}, "search.focus.min_accuracy") for share in (0, 1, "high")),
        ({"search": {"focus": {"max_weight": 5}}}, "search.focus.max_weight"),
        ({"search": {"focus": {"max_weights": 5}, "sampler": "nsga2"}}, "search.focus"),
        *(
            ({"search": {"until": {"gain": gain}}}, "search.until.gain")
            for gain in (0, 1, -0.1, "5 per cent", "0%", True)
        ),
        *(({"search": {"until": gain}}, "search.until.gain") for gain in ("never", 2, [0.1])),
        ({"search": {"until": {"gain": 0.01, "trials": 0}}}, "search.until.trials"),
        ({"search": {"until": {"trials": 5}}}, "search.until.gain"),
        ({"search": {"until": {"gain": 0.01, "epochs": 5}}}, "search.until.epochs"),
        ({"search": {"until": 0.01, "sampler": "tpe"}}, "search.until"),
        ({"resources": {"workers": 0}}, "resources.workers"),
        *(
            ({"resources": {"gpus_per_trial": gpus}}, "resources.gpus_per_trial")
            for gpus in (-0.5, -1, 1.5, 65, float("nan"), "many", "0.5", True, [1])
        ),
        ({"final_training": "long"}, "final_training"),
        ({"final_training": {"epochs": 0}}, "final_training.epochs"),
        (
            {"training": {"epochs": 9, "warmup_epochs": 3}, "final_training": {"epochs": 2}},
            "final_training.warmup_epochs",
        ),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_by_file_and_key(problem, sections, key):
    assert problem(sections).startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("section", "value"),
    [("data", []), ("training", []), ("search", False), ("resources", ""), ("final_training", 0)],
)
def test_an_empty_value_that_is_no_mapping_is_a_wrong_type(problem, section, value):
    assert problem({section: value}).startswith(f"{section}: expected a mapping")


@pytest.mark.parametrize("section", ["data", "space"])
def test_a_search_needs_data_and_a_space(problem, section):
    assert problem({section: None}) == f"{section}: is required and missing"


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"space": 5}, "space"),
        ({"space": {}}, "space.parameters"),
        ({"space": SPACE | {"limits": {"max_weights": 10}}}, "space.limits.max_weights"),
        ({"space": SPACE | {"fixed": {"family": "mgnett", "base_channels": [4]}}}, "space.fixed.family"),
        ({"data": {"name": "digits", "image_size": 9}}, "data.image_size"),
    ],
    ids=str,
)
def test_a_space_that_cannot_be_used_is_named_by_file_and_key(problem, sections, key):
    assert problem(sections, use=SearchConfig.search_space).startswith(f"{key}: ")


def test_gpus_are_used_without_being_asked(small_search):
    resources = small_search().resources
    assert (resources.gpus_per_trial, resources.execution) == ("auto", "auto")
    assert resources.per_trial == {"CPU": 1, "GPU": 0.0}, "nothing is decided yet"


@pytest.mark.parametrize(("given", "gpus"), [(0, 0.0), (0.25, 0.25), (1, 1.0), (2, 2.0)])
def test_a_number_of_gpus(small_search, given, gpus):
    resources = small_search(resources={"gpus_per_trial": given}).resources
    assert resources.gpus == resources.per_trial["GPU"] == gpus


def test_what_is_no_number_of_gpus_is_refused_with_what_is(refusal, small_search):
    message = refusal(lambda: small_search(resources={"gpus_per_trial": "many"}))
    assert message.endswith("resources.gpus_per_trial: expected auto or a number from 0 to 64, got 'many'")


def test_a_share_of_a_gpu_above_one_is_refused(refusal, small_search):
    message = refusal(lambda: small_search(resources={"gpus_per_trial": 1.5}))
    assert "1.5 is neither at most 1 nor a whole number" in message


def test_a_gpu_is_no_custom_resource(refusal, small_search):
    message = refusal(lambda: small_search(resources={"custom_per_trial": {"GPU": 1.0}}))
    assert "'GPU' cannot be the name of a custom resource; use gpus_per_trial" in message


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../up", ".hidden", 7, ["a"]])
def test_a_name_that_is_no_folder_is_refused(problem, name):
    assert problem({"name": name}).startswith("name: expected letters, digits")


def test_a_file_whose_name_is_no_run_name_needs_one(search_file, refusal):
    path = search_file("my search.yaml", name=None)
    assert refusal(lambda: SearchConfig.load(path)).startswith(f"{path}: name: ")
    assert SearchConfig.load(search_file("my search.yaml", name="mine")).name == "mine"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected a mapping"),
        ("# nothing but a comment\n", "expected a mapping"),
        ("- data\n- space\n", "expected a mapping"),
        ("digits", "expected a mapping"),
        ("data: {name: digits\nspace: 1", "not valid YAML"),
        ("data: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("a: &a [*a", "not valid YAML"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, refusal, content, said):
    path = tmp_path / "search.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refusal(lambda: SearchConfig.load(path))
    assert message.startswith(str(path))
    assert said in message


def test_a_missing_file_and_a_folder_are_refused(tmp_path, refusal):
    assert refusal(lambda: SearchConfig.load(tmp_path / "none.yaml")) == f"{tmp_path / 'none.yaml'}: no such file"
    assert refusal(lambda: SearchConfig.load(tmp_path)).startswith(f"{tmp_path}: cannot be read")


def test_missing_data_are_named(small_search, tmp_path):
    config = small_search(data={"name": "npz", "path": str(tmp_path / "none.npz")})
    with pytest.raises(UserError, match=r"none\.npz: no such file"):
        config.search_space()


@pytest.mark.parametrize("until", [{"gain": "0.5%"}, {"gain": 0.005, "trials": 20}, "0.5%", 0.005])
def test_a_share_may_be_a_percentage_and_stand_alone(small_search, tmp_path, until):
    config = small_search(search={"until": until, "sampler": "ehvi"})
    assert config.search.until == Until(gain=0.005, trials=20)
    write_yaml(tmp_path / "again.yaml", config.to_dict())
    assert SearchConfig.load(tmp_path / "again.yaml").search.until == config.search.until
    assert config.override(until="none").search.until is None
    assert config.override(until="1%").search.until == Until(gain=0.01)


def test_a_search_that_ends_by_its_gain_needs_a_model(problem):
    message = problem({"search": {"until": "1%", "sampler": "random"}})
    assert "search.until: needs the sampler ehvi, whose model expects the gain; random has none" in message


def test_a_focus_comes_back_and_leaves_its_weights(small_search, tmp_path):
    config = small_search(search={"focus": {"max_weights": "60k", "min_accuracy": "90%"}, "sampler": "ehvi"})
    assert config.search.focus == Focus(max_weights=60_000, min_accuracy=0.9)
    write_yaml(tmp_path / "again.yaml", config.to_dict())
    assert SearchConfig.load(tmp_path / "again.yaml").search.focus == config.search.focus
    whole = config.search_space()
    weights = sorted(candidate.weights for candidate in whole.enumerate())
    narrow = config.override(focus={"min_weights": weights[0] + 1, "max_weights": weights[-1]})
    assert sorted(candidate.weights for candidate in narrow.focused(whole).enumerate()) == [
        count for count in weights if count > weights[0]
    ]
    assert len(list(whole.enumerate())) == len(weights), "the space itself stays"
    only_accuracy = config.override(focus={"min_accuracy": 0.5})
    assert only_accuracy.focused(whole) is whole


def test_a_focus_without_a_network_is_refused(small_search):
    config = small_search(search={"focus": {"max_weights": 5}, "sampler": "ehvi"})
    with pytest.raises(ConfigError, match=r"search.focus: leaves no candidate: the networks that break it have"):
        config.focused(config.search_space())
