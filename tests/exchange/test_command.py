"""``python -m siamese.exchange``: from one format to another, or nothing is written and the faults are listed."""

from __future__ import annotations

from typing import get_args

import pytest

from siamese.exchange.__main__ import Name, main
from siamese.exchange.formats import FORMATS, read, write_folder
from tests.exchange.samples import ITEMS, equal


def test_the_command_knows_every_format():
    assert get_args(Name) == tuple(FORMATS)


@pytest.mark.parametrize("target", ["out.zip", "out"])
def test_a_data_set_changes_its_format(tmp_path, capsys, target):
    write_folder(ITEMS, "coco", tmp_path / "in")
    assert main(["auto", str(tmp_path / "in"), "labelme", str(tmp_path / target)]) == 0
    assert "7 images written" in capsys.readouterr().out
    equal(read(tmp_path / target, "labelme"), ITEMS)


def test_faults_are_listed_and_nothing_is_written(tmp_path, capsys):
    write_folder(ITEMS, "png", tmp_path / "in")
    (tmp_path / "in" / "images" / "two.png").write_bytes(b"x")
    for target in ("out", "out.zip"):
        assert main(["png", str(tmp_path / "in"), "coco", str(tmp_path / target)]) == 1
        assert "images/two.png: This file is not an image" in capsys.readouterr().err
        assert not (tmp_path / target).exists()


def test_an_existing_folder_is_not_mixed_with_others(tmp_path, capsys):
    write_folder(ITEMS, "png", tmp_path / "in")
    assert main(["png", str(tmp_path / "in"), "coco", str(tmp_path / "in")]) == 1
    assert "not an empty folder" in capsys.readouterr().err
    assert main(["png", str(tmp_path / "in"), "coco", str(tmp_path / "a" / "b")]) == 1
    assert "make it first" in capsys.readouterr().err
