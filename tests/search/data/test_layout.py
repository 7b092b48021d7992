"""Layouts of folders of images: what is a split, what is a class, what is passed over, and what is refused."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgnas.search.data.layout import find_layout


@pytest.fixture(scope="session")
def tree(new_path):
    """Paths of files -> a new folder with these, all empty: a layout is a matter of names."""

    def make(*files):
        root = new_path("images")
        for file in files:
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return root

    return make


def classes(folder="", names=("cat", "dog")) -> list[str]:
    """An image for each class."""
    return [f"{folder}/{name}/0.png".lstrip("/") for name in names]


TWO = {"cat": ["cat/0.png"], "dog": ["dog/0.png"]}


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "training_set", "train-images", "train data", "trn"])
@pytest.mark.parametrize(
    ("validation", "test"),
    [("val", "test"), ("Valid", "Test"), ("validation", "testing"), ("VAL", "test_set"), ("dev", "tests")],
)
def test_splits_are_recognised_in_the_usual_spellings(tree, train, validation, test):
    layout = find_layout(tree(*classes(train), *classes(validation, ["dog"]), *classes(test, ["cat"])))
    assert layout.train == {"cat": [f"{train}/cat/0.png"], "dog": [f"{train}/dog/0.png"]}
    assert layout.validation == {"dog": [f"{validation}/dog/0.png"]}
    assert layout.test == {"cat": [f"{test}/cat/0.png"]}
    assert layout.passed_over == ""


def test_a_class_may_be_called_as_a_split_is(tree):
    layout = find_layout(tree(*classes(names=["bus", "car", "train"])))
    assert list(layout.train) == ["bus", "car", "train"]
    assert list(find_layout(tree(*classes(names=["control", "test"]))).train) == ["control", "test"]
    names = ["crash_test", "freight train", "train_station", "valley"]
    assert list(find_layout(tree(*classes(names=names))).train) == names


def test_a_class_called_train_may_have_a_subfolder(tree):
    layout = find_layout(tree("bus/0.png", "car/0.png", "train/0.png", "train/more/1.png"))
    assert layout.train["train"] == ["train/0.png", "train/more/1.png"]


def test_a_train_that_can_be_class_and_split_is_refused(tree, refusal):
    root = tree("bus/0.png", "train/0.png", "train/cat/1.png", "train/dog/2.png")
    message = refusal(lambda: find_layout(root))
    assert message.startswith(f"{root}: train: holds images, and folders of images (cat, dog); move its own images")


def test_a_split_stays_one_if_an_image_lies_in_it_by_accident(tree):
    layout = find_layout(tree(*classes("train"), *classes("test"), "train/x.png"))
    assert list(layout.train) == ["cat", "dog"]
    assert layout.passed_over == "1 images in no class folder, as train/x.png"


def test_the_images_in_subfolders_of_a_class_belong_to_it(tree):
    layout = find_layout(tree("cat/0.png", "cat/a/1.png", "cat/a/b/c/d/e/2.png", "dog/x/3.png"))
    assert layout.train == {"cat": ["cat/0.png", "cat/a/1.png", "cat/a/b/c/d/e/2.png"], "dog": ["dog/x/3.png"]}


def test_classes_whose_images_lie_in_one_folder_of_the_same_name_are_classes(tree):
    """As in Tiny ImageNet, train/<class>/images/*."""
    layout = find_layout(tree("train/cat/images/0.png", "train/dog/images/0.png"))
    assert layout.train == {"cat": ["train/cat/images/0.png"], "dog": ["train/dog/images/0.png"]}


def test_what_is_passed_over_is_counted_by_its_ending(tree):
    files = ["cat/1.gif", "cat/2.GIF", "dog/a/3.gif", "dog/4.heic", "dog/5.jfif", "notes", "cat/Thumbs.db", "cat/.x"]
    assert find_layout(tree(*classes(), *files)).passed_over == "3 .gif, 1 without an ending, 1 .heic, 1 .jfif"


def test_what_operating_systems_leave_behind_is_ignored_by_name(tree):
    root = tree(*classes(), "__MACOSX/cat/._0.png", "__MACOSX/cat/0.png", "cat/@eaDir/0.png", ".git/0.png")
    layout = find_layout(root)
    assert layout.train == TWO
    assert layout.passed_over == "the folders __MACOSX, cat/@eaDir"


def test_further_folders_beside_splits_are_named(tree):
    layout = find_layout(tree(*classes("train"), "annotations/a.xml", "extra/cat/0.png"))
    assert list(layout.train) == ["cat", "dog"]
    assert layout.passed_over == "the folders annotations, extra"


def test_linked_classes_and_images_are_read_as_if_they_lay_there(tree):
    elsewhere, root = tree("cat/0.png", "x.png"), tree("dog/0.png")
    (root / "cat").symlink_to(elsewhere / "cat")
    (root / "dog" / "1.png").symlink_to(elsewhere / "x.png")
    assert find_layout(root).train == {"cat": ["cat/0.png"], "dog": ["dog/0.png", "dog/1.png"]}


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_that_leads_back_is_refused(tree, refusal, target):
    root = tree(*classes(), "cat/sub/1.png")
    (root / "cat" / "sub" / "loop").symlink_to(target)
    message = refusal(lambda: find_layout(root))
    assert message == f"{root}/cat/sub/loop: is a link back to a folder that it lies in; remove the link"


def test_a_link_to_itself_is_refused(tree, refusal):
    root = tree(*classes())
    (root / "loop").symlink_to("loop")
    assert refusal(lambda: find_layout(root)).startswith(f"{root}/loop: cannot be read (Too many levels of symbolic")


def test_accents_are_the_same_in_both_spellings_of_unicode(tree):
    layout = find_layout(tree(*classes("train", ["caf\u00e9", "bar"]), *classes("test", ["cafe\u0301"])))
    assert list(layout.train) == ["bar", "caf\u00e9"]
    assert list(layout.test) == ["caf\u00e9"]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([], ": no images in it; expected a folder for each class"),
        (["cat/x.gif", "cat/y.gif", "z.txt"], ": no images in it (2 .gif, 1 .txt; read are .bmp, .jpeg, "),
        (["0.png", "1.png"], ": holds 0 folders of images (data.path); expected"),
        (classes(names=["cat"]), ": holds 1 folders of images (data.path); expected"),
        (classes("train", ["cat"]), ": holds 1 folders of images (data.path); expected"),
        ([*classes("train"), *classes("Training")], ": Training and train: mean the same split; move the images"),
        ([*classes("train"), *classes("val"), *classes("valid")], ": val and valid: mean the same split"),
        ([*classes("train"), "test/0.png", "test/1.png"], ": test: its images lie in no class folder, so their"),
        (["train/0.png", "test/0.png"], ": train and test: the images lie in no class folder; move"),
        (["train/0.png", "test/0.png", "sample/0.png"], ": train and test: the images lie in no class folder"),
        (["train/0.png", "test/cat/0.png"], ": train: the images lie in no class folder"),
        ([*classes(), *classes("test")], ": test: holds the classes (cat, dog) once more; move the class folders"),
        ([*classes(), *classes("test2", ["cat"])], ": test2: holds the classes (cat) once more; move the class"),
        ([*classes(), *classes("more")], ": more: holds the classes (cat, dog) once more; move the class folders"),
        ([*classes("train"), *classes("val", ["cow"])], ": val/cow: is no class, as train/cow is missing"),
        ([*classes("Train"), *classes("Test", ["Cat"])], ": Test/Cat: is no class, as Train/Cat is missing"),
        ([*classes(), "cow/0.gif", "cow/1.gif"], ": cow: holds no images (.bmp, .jpeg, .jpg, .pgm, .png, .ppm, .tif"),
        ([*classes(), "docs/a.md"], "docs: holds no images"),
        (
            [*classes("seg_train/seg_train"), *classes("seg_test/seg_test")],
            ": seg_test, seg_train: look like splits; rename seg_test to test, rename seg_train to train",
        ),
        ([*classes("train1"), *classes("test1", ["cat"])], ": test1, train1: look like splits; rename test1 to test"),
        ([*classes("my_train"), "other/0.png"], ": my_train: look like splits; rename my_train to train"),
    ],
)
def test_an_unclear_layout_is_refused_with_a_remedy(tree, refusal, files, problem):
    root = tree(*files)
    root.mkdir(exist_ok=True)
    message = refusal(lambda: find_layout(root))
    assert message.startswith(f"{root}: ")
    assert problem in message


def test_a_class_of_other_formats_alone_says_which(tree, refusal):
    message = refusal(lambda: find_layout(tree(*classes(), "cow/0.gif", "cow/1.gif", "cow/2.heic")))
    assert message.endswith(") but 2 .gif, 1 .heic; convert them, or move the folder elsewhere")


@pytest.mark.parametrize(
    ("files", "below"),
    [
        (classes("chest"), "chest"),
        (classes("chest/a"), "chest/a"),
        ([*classes("chest"), "__MACOSX/chest/cat/0.png"], "chest"),
        ([*classes("chest/train"), *classes("chest/test")], "chest"),
        ([*classes("chest/a/Train"), "readme.txt"], "chest/a"),
        ([*classes("a"), *classes("b")], "a"),
        ([*classes("a"), *classes("b"), *classes("c", ["cow"])], "a"),
        ([*classes("train/a"), *classes("train/b")], "train/a"),
        ([*classes("cifar/train"), *classes("mnist/train")], "cifar"),
    ],
)
def test_classes_that_lie_deeper_are_refused_with_the_folder_to_give(tree, refusal, files, below):
    root = tree(*files)
    message = refusal(lambda: find_layout(root))
    assert f"give {root}/{below} as data.path" in message


def test_class_names_that_are_not_utf_8_are_refused_before_anything_is_read(tree, refusal):
    root = tree(*classes())
    folder = root / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "0.png").touch()
    message = refusal(lambda: find_layout(root))
    assert message.startswith(f"{root}: caf\\xe9: the class's name is not UTF-8; rename the folder")
    message.encode()


def test_folders_that_lie_too_deep_are_refused(tree, refusal):
    assert "more than 32 folders deep" in refusal(lambda: find_layout(tree(*classes(), "dog/" + 40 * "a/" + "0.png")))


NAMES = st.sampled_from(
    ["train", "Train", "val", "test", "cat", "dog", "a", "__MACOSX", ".git", "x.png", "y.gif", "\n", "caf\u00e9", "%s"]
)


@settings(max_examples=150)
@given(paths=st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12))
def test_any_folder_has_a_layout_or_is_refused_in_one_line(new_path, outcome, paths):
    root = new_path("images")
    root.mkdir()
    for path in paths:
        file = root.joinpath(*path, "0.png")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        except (FileExistsError, NotADirectoryError):  # One of the names is a file already.
            continue
    text = outcome(lambda: find_layout(root))
    if text != "fine":
        assert len(text.splitlines()) == 1
        return
    layout = find_layout(root)
    assert len(layout.train) >= 2
    assert len(layout.files) == len(set(layout.files))
    for file in layout.files:
        assert (root / file).is_file()
    for split in (layout.test, layout.validation):
        assert split is None or split.keys() <= layout.train.keys()
