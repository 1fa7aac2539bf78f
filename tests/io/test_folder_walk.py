import logging

import pytest
from PIL import Image

from deephash.code_files.code_shards import list_code_files
from deephash.code_files.image_rows import ImageRows
from deephash.code_files.store_rows import Store, StoredImageRows
from deephash.data.descriptors.pixels import Pixels
from deephash.data.image_listing import list_folder
from deephash.io.folder_walk import walk_files
from deephash.report.sweep_runs import find_job_folders
from deephash.validation import InvalidInputError

NAMES = ["ape/a.png", "bee/b.png", "bee/deep/c.png", "cat/d.png"]


@pytest.fixture
def folder(tmp_path):
    """Three classes: one holds a linked file, one a linked folder, and one is a link itself."""
    apart, root = tmp_path / "apart", tmp_path / "images"
    for name in ("single", "deep", "cats"):
        (apart / name).mkdir(parents=True)
    for name in ("single/x.png", "deep/c.png", "cats/d.png"):
        Image.new("RGB", (4, 4)).save(apart / name)
    for name in ("ape", "bee"):
        (root / name).mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(root / "bee" / "b.png")
    (root / "ape" / "a.png").symlink_to(apart / "single" / "x.png")
    (root / "bee" / "deep").symlink_to(apart / "deep")
    (root / "cat").symlink_to("../apart/cats")
    return root


@pytest.mark.needs("pyarrow")
def test_links_are_followed_by_every_reader_of_images(folder):
    listing = list_folder(folder)
    assert [file.relative_to(folder).as_posix() for file in listing.files] == NAMES
    assert [listing.class_names[label] for label in listing.labels] == ["ape", "bee", "bee", "cat"]
    assert ImageRows(folder, Pixels(), 4).names == NAMES
    assert StoredImageRows(folder.as_uri(), Pixels(), 4).names == NAMES


@pytest.mark.needs("pyarrow")
def test_a_link_that_leads_back_is_left_out_with_a_warning(folder, caplog):
    (folder / "cat" / "up").symlink_to(folder)
    (folder / "bee" / "here").symlink_to(".")
    with caplog.at_level(logging.WARNING):
        found = walk_files(folder)
    assert [file.relative_to(folder).as_posix() for file in found] == NAMES
    assert "bee/here is a link to a folder that contains it; it is left out." in caplog.text
    assert len(Store(folder.as_uri()).files) == 4


def test_two_links_to_one_folder_are_two_classes(folder):
    (folder / "also").symlink_to(folder / "cat")
    assert list_folder(folder).labels.tolist() == [0, 1, 2, 2, 3]


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize("name", ["bee/lost.png", "lost"])
def test_a_link_to_nothing_is_refused_by_name(folder, name):
    (folder / name).symlink_to("/nowhere")
    for read in (list_folder, lambda path: Store(path.as_uri())):
        with pytest.raises(InvalidInputError, match=rf"{name} is a link to /nowhere, which does not exist; repair or"):
            read(folder)


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InvalidInputError, match=r"images cannot be listed \(Permission denied\); make it readable"):
        walk_files(folder)


def test_hidden_files_and_deeper_folders_are_left_out_where_they_are_not_wanted(folder):
    (folder / ".thumbs").mkdir()
    (folder / ".thumbs" / "t.png").touch()
    assert len(walk_files(folder)) == 4
    assert len(walk_files(folder, hidden=True)) == 5
    assert walk_files(folder, stop=lambda path, _: path != folder) == [
        folder / name for name in NAMES if name.count("/") < 2
    ]


def test_jobs_and_codes_behind_links_are_found_too(tmp_path):
    (tmp_path / "elsewhere" / "inner").mkdir(parents=True)
    for name in ("metrics.json", "inner/metrics.json"):
        (tmp_path / "elsewhere" / name).touch()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "0").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "sweep" / "log").symlink_to("gone")
    assert list(find_job_folders(tmp_path / "sweep")) == [tmp_path / "sweep" / "0"]
    for name in ("a.npy", "a.json", "b.npy"):
        (tmp_path / "elsewhere" / name).touch()
    assert list_code_files(tmp_path / "elsewhere") == [tmp_path / "elsewhere" / "a.npy"]
    (tmp_path / "elsewhere" / "b.json").symlink_to("gone")
    with pytest.raises(InvalidInputError, match=r"b\.json is a link to gone, which does not exist"):
        list_code_files(tmp_path / "elsewhere")
