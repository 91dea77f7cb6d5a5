import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-sampler.md"


def test_the_pages_code_runs_and_is_short():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 2
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(lines) < 20
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert -4.3 < names["slope"] < -3.7
