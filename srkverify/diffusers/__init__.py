"""Samplers as schedulers of diffusers, and diffusers' schedulers as tableaus (``pip install 'srkverify[diffusers]'``).

:class:`SRKScheduler` runs any tableau's rows in a pipeline of diffusers; :func:`tableau_of` reads the table of numbers
off a scheduler of diffusers, by asking its own code. How to use them: docs/diffusers.md.
"""

from __future__ import annotations

try:
    import diffusers  # the package of that name, not this one
    import torch  # noqa: F401
except ImportError as problem:
    raise ImportError(
        f"srkverify.diffusers needs diffusers and torch ({problem}): pip install 'srkverify[diffusers]'"
    ) from problem

from srkverify.diffusers.probing import tableau_of, times_of
from srkverify.diffusers.scheduler import SRKScheduler, available

__all__ = ["SRKScheduler", "available", "diffusers", "tableau_of", "times_of"]
