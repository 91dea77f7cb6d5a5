"""The tutorial's code, from top to bottom, and what the page says that it prints."""

import re
from pathlib import Path

import numpy as np
import pytest

reason = "needs diffusers, torch and scikit-learn, the extras 'diffusers' and 'images'"
pytest.importorskip("torch", reason=reason, exc_type=ImportError)
pytest.importorskip("diffusers", reason=reason, exc_type=ImportError)
pytest.importorskip("sklearn", reason=reason, exc_type=ImportError)

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"

# How diffusers turns tensors into arrays is its own affair.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_pages_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    names = {"__name__": "tutorial"}
    printed = []
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
        printed.append(capsys.readouterr().out)
    shown = re.search(r"\n\n((?:    \S.* nats\n)+)", text)[1]
    assert [line.strip() for line in shown.splitlines()] == printed[0].splitlines()
    assert (tmp_path / "kl.png").stat().st_size > 1000
    assert (tmp_path / "digits.png").stat().st_size > 1000
    assert names["learned"].value > names["exact"].value
    assert names["generated"].images.shape == (4, 8, 8, 1)
    assert np.isfinite(names["generated"].images).all()
    assert names["result"].value > 0.0
