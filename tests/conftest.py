import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # so that tests can import reference.py

# Compilation happens inside the first example; a deadline would measure that. Derandomised: same examples each run.
settings.register_profile("srkverify", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("srkverify")


@pytest.fixture
def interruptible():
    """Let an interrupt raise, also where it is ignored: in the background of a shell, for example."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
