"""Whatever one damages in a data set, it is read or refused with ``ExchangeError``, never with another error."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from siamese.exchange.formats import FORMATS, read, write_folder
from siamese.exchange.item import AnnotatedImage, ExchangeError
from tests.exchange.samples import HOLED, mask_of, photo

SMALL = AnnotatedImage(
    photo(0, (9, 11)), mask_of((1, 4, 1, 5), size=(9, 11)), "a", synthetic=True, recipe="r"
)
VALUES = (
    b"null",
    b"-1",
    b"1e999",
    b'"x"',
    b"[]",
    b"{}",
    b"[[1]]",
    b"true",
    b"<",
    b"\xff",
    b"\0",
    b"9" * 400,
    b"",
)


@pytest.fixture(scope="module", params=FORMATS)
def small(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    hole = AnnotatedImage(photo(1), HOLED, "b")
    write_folder([SMALL, hole], request.param, folder / "whole")
    texts = sorted(
        p for p in (folder / "whole").rglob("*") if p.suffix in (".json", ".jsonl", ".xml", ".dcm")
    )
    return request.param, folder, [path.relative_to(folder / "whole") for path in texts]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_data_sets_are_read_or_refused(small, data):
    name, folder, texts = small
    shutil.rmtree(folder / "damaged", ignore_errors=True)
    shutil.copytree(folder / "whole", folder / "damaged")
    path = folder / "damaged" / data.draw(st.sampled_from(texts))
    content = path.read_bytes()
    # At a value, if the file is a text: elsewhere most changes only break its syntax.
    starts = [i + 1 for i, byte in enumerate(content) if byte in b':[,"'] if path.suffix != ".dcm" else []
    where = data.draw(st.sampled_from(starts) if starts else st.integers(0, len(content) - 1))
    length = data.draw(st.integers(0, 12))
    path.write_bytes(content[:where] + data.draw(st.sampled_from(VALUES)) + content[where + length :])
    try:
        for item in read(folder / "damaged", name):
            assert item.mask.shape == item.image.shape[:2]
            assert item.image.dtype == np.uint8
    except ExchangeError as error:
        assert len(str(error)) > 20


@pytest.mark.parametrize("name", FORMATS)
def test_every_value_of_another_type_is_read_or_refused(name, tmp_path):
    """Each number, text, list and object of the JSON files in turn becomes something else."""
    write_folder([SMALL], name, tmp_path)
    for path in [p for p in tmp_path.rglob("*") if p.suffix in (".json", ".jsonl")]:
        whole = path.read_text()
        document = json.loads(whole)
        for changed in changes(document):
            path.write_text(json.dumps(changed) + "\n")
            try:
                read(tmp_path, name)
            except ExchangeError as error:
                assert len(str(error)) > 20
        path.write_text(whole)


def changes(value):
    """Copies of a JSON value with one part of it replaced."""
    yield from (None, -1, 2**70, 0.5, "x", [], {}, [[1]], True)
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            yield from ({**value, key: changed} for changed in changes(value[key]))
    elif isinstance(value, list):
        for number in range(min(len(value), 2)):
            yield from (
                [*value[:number], changed, *value[number + 1 :]] for changed in changes(value[number])
            )
