"""Whether there is a GPU that kernels can run on; what is missing otherwise, and how to get it."""

from __future__ import annotations

import importlib.util

_EXTRA = "pip install 'srkverify[cuda]'"


def require() -> None:
    """Raise a RuntimeError that says what is missing, if backend "cuda" cannot be used."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise RuntimeError(f"backend 'cuda' needs numba-cuda, which is not installed: {_EXTRA}")
    from numba import cuda

    if cuda.config.ENABLE_CUDASIM:
        return
    if not cuda.is_available():
        try:
            cuda.detect()
            cause = "no GPU was found"
        except Exception as error:  # of whatever kind the driver's bindings raise
            cause = " ".join(str(error).split()).strip(" :") or type(error).__name__
        raise RuntimeError(
            f"backend 'cuda' needs an NVIDIA GPU with its driver ({cause}): nvidia-smi must list one; "
            "use backend='cpu' here"
        )
