import mpmath as mp
import numba as nb
import numpy as np

from srkverify.engines import vecmath


@nb.njit
def exp_all(x, out):
    for i in range(len(x)):
        out[i] = vecmath.exp(x[i])


def test_exp_is_right_to_two_units_in_the_last_place():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-708, 709, 2000), rng.uniform(-1, 1, 2000), [0.0, -708.0, 709.0, 1e-300, -1e-17]])
    out = np.empty_like(x)
    exp_all(x, out)
    with mp.workdps(30):
        errors = [
            abs(float((mp.mpf(value) - mp.exp(point)) / mp.exp(point))) for point, value in zip(x, out, strict=True)
        ]
    assert max(errors) < 4.5e-16


def test_exp_of_very_negative_arguments_is_tiny_and_never_garbage():
    x = np.array([-709.0, -800.0, -1e10, -1e300])
    out = np.empty_like(x)
    exp_all(x, out)
    assert ((out >= 0) & (out < 4e-308)).all()
