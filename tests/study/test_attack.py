"""Blinding holds against a view of everything but the pixels, and the attack does find what leaks."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from sqlalchemy import select, update

from siamese.study.storage.schema import images, items
from tests.phantoms import phantom
from tests.study import phantom_study
from tests.tools.attack import ALPHA, run

GROUPS = 16


@pytest.mark.slow
def test_no_feature_tells_the_methods_apart(tmp_path):
    guess = run(tmp_path, GROUPS)
    assert guess.p > ALPHA, guess
    assert guess.features > 60
    assert guess.images == 24


@pytest.mark.slow
def test_methods_of_other_sizes_formats_and_smoothness_are_not_distinguished(tmp_path, monkeypatch):
    def write(folder, masks, methods, **_):
        """Real photographs as JPEG of many sizes, one method small and flat, one large with metadata."""
        folders = {m.name: folder / m.name for m in methods}
        for i, method in enumerate(methods):
            folders[method.name].mkdir(parents=True)
            for mask in range(masks):
                if i == 0:
                    Image.fromarray(phantom(mask, 90 + mask, 120 + mask)[0]).save(
                        folders[method.name] / f"{mask}.jpg", quality=60 + mask
                    )
                elif i == 1:
                    Image.new("RGB", (64, 48), (150, 80 + mask, 70)).save(
                        folders[method.name] / f"{mask}.png"
                    )
                else:
                    Image.fromarray(phantom(5000 + mask, 200, 200)[0]).save(
                        folders[method.name] / f"{mask}.webp", exif=Image.Exif()
                    )
        return folders

    monkeypatch.setattr(phantom_study, "write_folders", write)
    guess = run(tmp_path, GROUPS)
    assert guess.p > ALPHA, guess


def leaking_length(store) -> None:
    """Compressed files, as a naive server would send them."""
    with store.database.write() as connection:
        for row in connection.execute(
            select(images.c.item_id, images.c.data, items.c.method).join(items)
        ).all():
            buffer, picture = io.BytesIO(), Image.open(io.BytesIO(row.data))
            coarse = {"real": picture.size, "ControlNet": (32, 24), "Ours": (1, 1)}[row.method]
            picture.resize(coarse).resize(picture.size).save(buffer, "PNG")
            connection.execute(
                update(images).where(images.c.item_id == row.item_id).values(data=buffer.getvalue())
            )


def leaking_trailer(store) -> None:
    """One length, but padding that gives away the end of the picture."""
    with store.database.write() as connection:
        for row in connection.execute(
            select(images.c.item_id, images.c.data, items.c.method).join(items)
        ).all():
            extra = {"real": 1, "ControlNet": 2, "Ours": 3}[row.method]
            connection.execute(
                update(images).where(images.c.item_id == row.item_id).values(data=row.data + b"\0" * extra)
            )


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [leaking_length, leaking_trailer])
def test_the_attack_finds_a_leak(tmp_path, spoil):
    guess = run(tmp_path, GROUPS, spoil)
    assert guess.p < ALPHA, guess
