"""What commands say on stdout."""

from __future__ import annotations

import os
import sys


def say(text: str) -> None:
    """Print ``text``. A reader that has gone, as ``head`` does when it has enough, is no error: the run goes on."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is left in the buffer would fail again, at the latest when Python exits.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
