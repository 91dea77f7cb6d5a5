import re
import subprocess
import sys
from pathlib import Path

from test_sweep import environment

PAGE = Path(__file__).parents[3] / "docs" / "studies" / "README.md"
FIGURE = "from matplotlib.figure import Figure\n\n\ndef draw(tables):\n    return {'example': Figure()}\n"


def test_the_study_on_the_page_runs_as_it_stands(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    # Outside the package a study says where it is.
    (tmp_path / "example.py").write_text(code.replace('name="NAME"', 'name="example", module="example"'))
    (tmp_path / "example_figure.py").write_text(FIGURE)
    run = subprocess.run(
        [sys.executable, "example.py", "--steps=16,32", "--out=out"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "2 values of KL·K²." in run.stdout
    assert "1.318e-02" in run.stdout  # KL at K = 32 of the reference values in docs/theory.md
