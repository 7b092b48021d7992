"""Files in folders: what is listed, when it counts as changed, and how names are shown."""

import os

import pytest

from mgnas.search.data.file_tree import FolderTree, images_in, scan_folder, state_of


@pytest.fixture
def root(tmp_path):
    for file in ("b/1.png", "b/a/2.PNG", "a.txt", ".hidden/3.png", "__MACOSX/4.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    return tmp_path


def test_a_scan_lists_files_of_any_depth_but_hidden_ones_and_litter(root):
    folder = scan_folder(root)
    assert list(folder.all_files()) == ["a.txt", "b/1.png", "b/a/2.PNG"]
    assert folder.images() == ["b/1.png", "b/a/2.PNG"]
    assert folder.litter == ["__MACOSX"]


def test_images_in_a_folder_are_those_that_lie_in_it_directly(root):
    tree = FolderTree(root)
    assert images_in(tree, "b") == ["b/1.png"]
    assert images_in(tree, "none") == []


def test_a_file_that_cannot_be_read_is_named(root, refusal):
    assert refusal(lambda: FolderTree(root).read("b/9.png")) == f"{root}: lacks b/9.png; copy or unpack it again"
    assert refusal(lambda: FolderTree(root).read("b")) == f"{root}/b: cannot be read (Is a directory)"


@pytest.mark.parametrize("depth", [1, 7])
def test_the_state_of_a_folder_changes_with_files_of_any_depth(tmp_path, depth):
    file = tmp_path.joinpath(*depth * "a") / "1.png"
    file.parent.mkdir(parents=True)
    file.write_text("")
    before = state_of(tmp_path)
    assert state_of(tmp_path) == before
    file.write_text("x")
    assert state_of(tmp_path) != before


def test_a_missing_folder_and_a_broken_link_are_named(root, refusal):
    (root / "b" / "5.png").symlink_to("nowhere")
    for path, missing in ((root, root / "b" / "5.png"), (root / "none", root / "none")):
        assert refusal(lambda path=path: state_of(path)) == f"{missing}: no such file or folder (data.path)"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(root, refusal):
    (root / "b").chmod(0)
    message = refusal(lambda: scan_folder(root))
    (root / "b").chmod(0o700)
    assert message == f"{root}/b: cannot be read (Permission denied); check data.path and its permissions"
