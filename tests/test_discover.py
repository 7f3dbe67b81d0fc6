import os

import pytest

from unitrow.discover import find


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def listed(folders):
    return [(folder.display(), folder.files, folder.unsupported) for folder in folders]


def test_folders_come_sorted_with_their_checkpoint_files(tmp_path):
    make(tmp_path, "b/x.safetensors", "a/2.npz", "a/1.NPY", "a/cfg.json", "a/old.pt", "notes.txt")
    folders, unlisted = find([str(tmp_path)])
    assert listed(folders) == [("a", ["1.NPY", "2.npz"], ["old.pt"]), ("b", ["x.safetensors"], [])]
    assert not unlisted
    assert "cfg.json" in folders[0].siblings


def test_an_explicit_file_is_taken_whatever_its_suffix(tmp_path):
    make(tmp_path, "weights.dat", "other.safetensors")
    (folder,), _ = find([str(tmp_path / "weights.dat")])
    assert (folder.files, folder.explicit, folder.display("weights.dat")) == (
        ["weights.dat"],
        True,
        "weights.dat",
    )


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        find([str(tmp_path / "nowhere")])
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert caught.value.filename == str(tmp_path / "nowhere")


def test_link_loops_end_and_dangling_links_are_kept(tmp_path):
    make(tmp_path, "a/x.safetensors")
    os.symlink(tmp_path, tmp_path / "a" / "up")
    os.symlink(tmp_path / "gone", tmp_path / "a" / "y.safetensors")
    folders, _ = find([str(tmp_path)])
    assert listed(folders) == [("a", ["x.safetensors", "y.safetensors"], [])]


def test_a_folder_under_a_checkpoint_name_is_not_walked_past(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    (folder,), _ = find([str(tmp_path)])
    assert folder.files == ["model.safetensors"]


def test_the_same_argument_twice_counts_once(tmp_path):
    make(tmp_path, "x.npz")
    assert len(find([str(tmp_path), str(tmp_path)])[0]) == 1


def test_a_link_does_not_hide_the_folder_it_leads_to(tmp_path):
    make(tmp_path, "real/x.npz")
    os.symlink("real", tmp_path / "alias")
    assert listed(find([str(tmp_path)])[0]) == [("real", ["x.npz"], [])]


def test_a_link_to_a_folder_around_the_root_is_not_followed(tmp_path):
    make(tmp_path, "asked/x.npz", "other/y.npz")
    os.symlink("/", tmp_path / "asked" / "everything")
    os.symlink("..", tmp_path / "asked" / "up")
    os.symlink(tmp_path / "other", tmp_path / "asked" / "beside")
    assert listed(find([str(tmp_path / "asked")])[0]) == [(".", ["x.npz"], []), ("beside", ["y.npz"], [])]


def test_a_link_to_nothing_that_may_have_been_a_folder_is_reported(tmp_path):
    make(tmp_path, "a/x.npz")
    for name in ("layer_3", "layers.10", "notes.md"):
        os.symlink("missing", tmp_path / name)
    _, unlisted = find([str(tmp_path)])
    assert [one.path for one in unlisted] == ["layer_3", "layers.10"]


def test_what_is_reached_by_several_arguments_counts_once(tmp_path):
    make(tmp_path, "a/x.npz")
    root = str(tmp_path)
    paths = [f"{root}/a/x.npz", root, f"{root}/", f"{root}/a", f"{root}/./a/x.npz"]
    assert len(find(paths)[0]) == 1
