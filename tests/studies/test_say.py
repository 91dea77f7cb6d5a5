import os
import subprocess
import sys

import pytest

QUICK = ["--targets=unimodal", "--schemes=ddpm", "--grids=exponential", "--evaluations=8", "--workers=1"]


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (["studies"], []),
        (["studies.league", *QUICK], ["league.csv", "league_exponential.png"]),
        (["studies.all", "--only=league", "--quick", "--dry-run"], []),
    ],
)
def test_a_reader_that_has_gone_is_no_error(tmp_path, command, left):
    arguments = command if command == ["studies"] else [*command, f"--out={tmp_path}"]
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run(
        [sys.executable, "-m", *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert all((tmp_path / name).exists() for name in left)
