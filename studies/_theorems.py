"""What arXiv 2410.04760 says of each scheme: KL ≤ ε² in Õ(d^a/ε^b) steps."""

from __future__ import annotations

DDPM_THEOREM, SRK_THEOREM = (1.0, 2.0), (1.5, 1.0)
_DDPM_SCHEMES = ("euler_maruyama", "exponential_euler", "ddpm", "ddpm_beta", "ddpm_posterior")


def theorem(scheme: str) -> tuple[float, float]:
    """Return a and b of the guarantee: DDPM's for its variants, and SRK's, to which all others are held."""
    return DDPM_THEOREM if scheme in _DDPM_SCHEMES else SRK_THEOREM


def powers(a: float, b: float) -> str:
    """Return d^a/ε^b as one writes it."""
    return f"d{'' if a == 1.0 else f'^{a:g}'}/ε{'' if b == 1.0 else f'^{b:g}'}"
