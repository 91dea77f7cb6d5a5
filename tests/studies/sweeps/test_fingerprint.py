import importlib

import pytest

from studies import _fingerprint

STUDY = '''
"""The question."""
from studies._kl_table import KLTable
from studies import _theorems
import srkverify as sv

FACTOR = 2.0
TITLE = "a title"


class Cell:
    """A cell."""
    number = 1


def solve(cell):
    """Solve."""
    return helper(cell.number)  # a comment


def helper(number):
    return FACTOR * number


def report(tables):
    return TITLE
'''


@pytest.fixture
def version(tmp_path, monkeypatch):
    """Return a function: the version of the study with pieces of its text replaced."""
    monkeypatch.syspath_prepend(str(tmp_path))
    place = tmp_path / "study_under_test.py"

    def of(*replacements):
        text = STUDY
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        place.write_text(text)
        importlib.invalidate_caches()
        for cached in (_fingerprint.fingerprint, _fingerprint._definitions):
            cached.cache_clear()
        return _fingerprint.fingerprint(place.stem, "solve", "Cell")

    return of


def test_words_may_change(version):
    words = [
        ('"""The question."""', '"""Another question."""'),
        ('"""Solve."""', '"""Solve it."""'),
        ("  # a comment", ""),
        ('"a title"', '"another title"'),
        ("return TITLE", "return TITLE + TITLE"),
    ]
    before = version()
    for change in words:
        assert version(change) == before, change


def test_what_a_result_depends_on_may_not(version):
    before = version()
    for change in [
        ("FACTOR = 2.0", "FACTOR = 3.0"),
        ("FACTOR * number", "FACTOR + number"),
        ("number = 1", "number = 2"),
        ("helper(cell.number)", "helper(cell.number + 1)"),
    ]:
        assert version(change) != before, change


def test_code_of_other_modules_counts_if_it_is_reached(version, monkeypatch):
    unused, used = version(), version(("return FACTOR * number", "return KLTable(FACTOR)"))
    assert version(("return FACTOR * number", "return _theorems.theorem(FACTOR)")) not in (unused, used)
    parsed = _fingerprint._parsed

    def tighter(path):
        tree = parsed(path)
        if path.name == "_kl_table.py":
            tree.body = [node for node in tree.body if getattr(node, "name", "") != "_evaluated"]
        return tree

    monkeypatch.setattr(_fingerprint, "_parsed", tighter)
    assert version() == unused
    assert version(("return FACTOR * number", "return KLTable(FACTOR)")) != used


def test_the_library_counts_as_a_whole(version, monkeypatch):
    before = version()
    assert version() == before
    monkeypatch.setattr(_fingerprint, "_library", lambda: "another")
    assert version() != before


def test_a_module_that_is_none_is_refused():
    with pytest.raises(ValueError, match="module must be one that can be imported; got 'no_such_module'"):
        _fingerprint.fingerprint("no_such_module", "solve")
