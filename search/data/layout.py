"""The layout of a folder of images: which of its folders are splits, and which are classes."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mgnas.errors import UserError, printable

from .file_tree import SUFFIXES, Folder, is_image, scan_folder

_SPLITS = {
    "train": "train|training|trn",
    "validation": "val|valid|validation|validate|validating|dev|development",
    "test": "test|tests|testing|tst",
}
"""Split -> the usual names of its folder, which may be followed by `set`, `data`, `images` or `split`."""
_NO_FILES_OF_THE_USER = {"thumbs.db", "desktop.ini"}
_NAMED = 10


@dataclass(frozen=True)
class Layout:
    """The image files of each class in each split, by their paths below the folder; both are sorted.

    Args:
        train, validation, test: class name -> files. A split that the folder does not have is None.
        passed_over: what is in the folder and is not read, in words; empty if there is nothing.
    """

    train: dict[str, list[str]]
    validation: dict[str, list[str]] | None
    test: dict[str, list[str]] | None
    passed_over: str

    @property
    def files(self) -> list[str]:
        """All images: those to train on, then the test images, then the validation images."""
        splits = (self.train, self.test or {}, self.validation or {})
        return [file for split in splits for files in split.values() for file in files]


def find_layout(root: Path) -> Layout:
    """Find the splits and classes of a folder: train/<class>/*, or <class>/* without splits.

    Beside `train` there may be folders with the validation and test images. Their usual names are recognised, in upper
    or lower case. The images in a class's subfolders belong to the class. Symbolic links are followed.

    Raises:
        UserError: the folder cannot be read, or it is not clear what the classes are; the message says what to do.
    """
    tree = scan_folder(root)
    folders = tree.folders
    splits = {name: [folder for folder in folders if _split_of(folder.name) == name] for name in _SPLITS}
    if not any(folder.images() for folder in folders) and not any(map(is_image, tree.files)):
        others = _by_ending(tree.all_files())
        holds = f" ({others}; read are {', '.join(sorted(SUFFIXES))})" if others else ""
        raise UserError(f"{root}: no images in it{holds}; expected a folder for each class, with its images in it")
    if not _has_splits(root, folders):
        _check_flat(root, tree, folders, splits)
        train = _classes(root, folders)
        return Layout(train, None, None, _passed_over(tree, [], train))
    chosen = {name: _the_one(root, candidates) for name, candidates in splits.items() if candidates}
    classes = {}
    for name, folder in chosen.items():
        if not folder.folders:
            raise UserError(f"{root}: {printable(folder.name)}: {_without_classes(folder, name)}")
        if name == "train":
            _check_nesting(root, folder)
        classes[name] = _classes(root, folder.folders, below=folder.name)
    for name, split in classes.items():
        if unknown := sorted(split.keys() - classes["train"].keys()):
            here, there = (printable(f"{chosen[split].name}/{unknown[0]}") for split in (name, "train"))
            raise UserError(f"{root}: {here}: is no class, as {there} is missing")
    further = [folder.name for folder in folders if folder not in chosen.values()]
    passed_over = _passed_over(tree, further, *classes.values())
    return Layout(classes["train"], classes.get("validation"), classes.get("test"), passed_over)


def _split_of(name: str) -> str | None:
    """Which split a folder's name means, if any."""
    plain = re.sub(r"[\W_]+", "", name.casefold())
    for split, names in _SPLITS.items():
        if re.fullmatch(f"({names})(set|data|images|imgs|split)?", plain):
            return split
    return None


def _hint_of(name: str) -> str | None:
    """Which split a folder's name may mean: one with `train`, `val` or `test` as a word, as in seg_train and test1."""
    words = re.split(r"[\W_\d]+", name.casefold())
    return next((split for word in words if word and (split := _split_of(word))), None)


def _has_splits(root: Path, folders: list[Folder]) -> bool:
    """Whether these are splits with class folders in them, not class folders of which one is called `train`.

    Raises:
        UserError: both can be meant.
    """
    train = [folder for folder in folders if _split_of(folder.name) == "train"]
    inside = [inside for folder in train for inside in folder.folders if inside.images()]
    if not inside:
        return False
    classes = {folder.name for folder in folders if _split_of(folder.name) is None and _direct_images(folder)}
    if not classes or not any(map(_direct_images, train)):
        return True
    if len(inside) > 1:
        named = printable(train[0].name)
        remedy = "move its own images elsewhere if it is a split, or up from its folders if it is a class"
        raise UserError(f"{root}: {named}: holds images, and folders of images ({_names(inside)}); {remedy}")
    return False


def _names(folders: list[Folder]) -> str:
    return ", ".join(printable(folder.name) for folder in folders[:_NAMED])


def _direct_images(folder: Folder) -> bool:
    return any(map(is_image, folder.files))


def _the_one(root: Path, candidates: list[Folder]) -> Folder:
    if len(candidates) > 1:
        names = " and ".join(printable(folder.name) for folder in candidates)
        raise UserError(f"{root}: {names}: mean the same split; move the images into one of them")
    return candidates[0]


def _without_classes(folder: Folder, split: str) -> str:
    """What is wrong with a split that holds no class folders, and what to do."""
    if not _direct_images(folder):
        return "holds no folders of images; fill it as train, or delete it"
    if split == "train":
        return "its images lie in no class folder; move those of each class into a folder of its own"
    return "its images lie in no class folder, so their classes are unknown; move the folder elsewhere"


def _check_flat(root: Path, tree: Folder, folders: list[Folder], splits: dict[str, list[Folder]]) -> None:
    """Refuse folders that look like splits, or like data sets with classes below them.

    Raises:
        UserError: they do.
    """
    for folder in folders:
        inside = next((inside for inside in folder.folders if _split_of(inside.name) == "train"), None)
        if inside is not None and any(deeper.images() for deeper in inside.folders) and not _direct_images(folder):
            raise UserError(_one_level_down(root, folder, f"holds {printable(inside.path)}"))
    flat_splits = {name: next(filter(_direct_images, found), None) for name, found in splits.items()}
    train, others = flat_splits["train"], [flat_splits["validation"], flat_splits["test"]]
    if train is not None and (any(others) or all(_split_of(folder.name) for folder in folders)):
        names = " and ".join(printable(folder.name) for folder in (train, *others) if folder is not None)
        remedy = "move the images of each class into a folder of its own, as train/<class>/"
        raise UserError(f"{root}: {names}: the images lie in no class folder; {remedy}")
    nested = [folder for folder in folders if len(folder.folders) > 0 and not _direct_images(folder)]
    hints = [(folder, hint) for folder in nested if (hint := _hint_of(folder.name))]
    if len({hint for _, hint in hints}) > 1 or any(hint == "train" and len(it.folders) > 1 for it, hint in hints):
        remedy = ", ".join(f"rename {printable(folder.name)} to {hint}" for folder, hint in hints[:_NAMED])
        raise UserError(f"{root}: {_names([folder for folder, _ in hints])}: look like splits; {remedy}")
    names = {folder.name for folder in folders}
    for folder in nested if len(folders) > 1 else ():
        shared = sorted(names & {inside.name for inside in folder.folders})
        if len(shared) > 1 or (shared and _hint_of(folder.name)):
            named = ", ".join(map(printable, shared[:_NAMED]))
            remedy = "move the class folders beside it into a folder train, or move it elsewhere"
            raise UserError(f"{root}: {printable(folder.name)}: holds the classes ({named}) once more; {remedy}")
    _check_nesting(root, tree)


def _check_nesting(root: Path, parent: Folder) -> None:
    """Refuse folders that hold folders with the names of classes.

    Raises:
        UserError: they do.
    """
    folders = parent.folders
    if not folders or any(map(_direct_images, folders)):
        return
    counts = Counter(inside.name for folder in folders for inside in folder.folders)
    shared = sorted(name for name, count in counts.items() if 2 * count > len(folders))
    if len(shared) > 1:
        named = ", ".join(map(printable, shared[:_NAMED]))
        if len(folders) == 1:
            raise UserError(_one_level_down(root, folders[0], f"holds one folder only, with {named} in it"))
        outer = " and ".join(printable(folder.path) for folder in folders[:2])
        remedy = f"if {outer} are the classes, move the images up into them"
        other = f"if {named} are the classes, give {printable(root / folders[0].path)} as data.path"
        raise UserError(f"{root}: {outer} hold folders of the same names; {remedy}; {other}")
    deepest = parent
    while len(deepest.folders) == 1 and not _split_of(deepest.folders[0].name):
        deepest = deepest.folders[0]
    if deepest is not parent and deepest.folders and not _direct_images(deepest):
        raise UserError(_one_level_down(root, deepest, f"holds one folder only, {printable(folders[0].path)}"))


def _one_level_down(root: Path, folder: Folder, problem: str) -> str:
    remedy = f"give {printable(root / folder.path)} as data.path, or move what is in it up into {root}"
    return f"{root}: {problem}, so the classes seem to lie below it; {remedy}"


def _classes(root: Path, folders: list[Folder], below: str = "") -> dict[str, list[str]]:
    """The image files of each folder, which is a class. `below`: the name of the split that they lie in."""
    classes: dict[str, list[str]] = {}
    for folder in folders:
        try:
            folder.name.encode()
        except UnicodeEncodeError:
            remedy = "rename the folder, e.g. by: convmv -r -f cp1252 -t utf8 --notest"
            raise UserError(f"{root}: {printable(folder.path)}: the class's name is not UTF-8; {remedy}") from None
        # macOS stores accents apart from their letters, other systems do not.
        name = unicodedata.normalize("NFC", folder.name)
        images = folder.images()
        if not images:
            endings = ", ".join(sorted(SUFFIXES))
            held = _by_ending(folder.all_files())
            there = f" but {held}" if held else ""
            remedy = "convert them, or move the folder elsewhere" if there else "fill it, or move it elsewhere"
            raise UserError(f"{root}: {printable(folder.path)}: holds no images ({endings}){there}; {remedy}")
        if name in classes:
            raise UserError(f"{root}: {printable(folder.path)}: stands twice, in two spellings of Unicode; rename one")
        classes[name] = images
    if len(classes) < 2 and _split_of(below) in (None, "train"):
        expected = "train/<class>/*.png or <class>/*.png with at least 2 classes (png, jpg, bmp, webp, tif, ppm)"
        raise UserError(f"{root}: holds {len(classes)} folders of images (data.path); expected {expected}")
    return dict(sorted(classes.items()))


def _passed_over(tree: Folder, further: list[str], *splits: dict[str, list[str]]) -> str:
    """What is not read, in words: files by their endings, images outside the classes, folders."""
    read = {file for split in splits for files in split.values() for file in files}
    skipped = (*further, *tree.litter)
    files = [
        file
        for file in tree.all_files()
        if file not in read and not any(file.startswith(f"{folder}/") for folder in further)
    ]
    parts = []
    others = [file for file in files if not is_image(file)]
    if endings := _by_ending(others):
        parts.append(endings)
    if strays := [file for file in files if is_image(file)]:
        parts.append(f"{len(strays):,} images in no class folder, as {printable(strays[0])}")
    if skipped:
        more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        noun = "the folder" if len(skipped) == 1 else "the folders"
        parts.append(f"{noun} {', '.join(map(printable, skipped[:_NAMED]))}{more}")
    return "; ".join(parts)


def _by_ending(files: Iterable[str]) -> str:
    """The numbers of files by their endings: `12 .gif, 3 .heic`."""
    names = (os.path.basename(file).casefold() for file in files)  # noqa: PTH119
    counts = Counter(
        os.path.splitext(name)[1] or "without an ending"  # noqa: PTH122
        for name in names
        if name not in _NO_FILES_OF_THE_USER
    )
    return ", ".join(f"{count:,} {printable(ending)}" for ending, count in counts.most_common(_NAMED))
