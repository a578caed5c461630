"""Adaptive step sizes, with tolerances that are looked at."""

import math

import diffrax as dfx


def adaptive(rtol, atol, **options) -> dfx.PIDController:
    """`diffrax.PIDController(rtol, atol, **options)`, which itself takes any tolerance.

    **Arguments:** `rtol`, `atol`: relative and absolute tolerance, both at least 0 and one of them
    above; `options`: what else the controller takes, such as `dtmax`.

    **Returns:** the controller, for `diffrax.diffeqsolve(stepsize_controller=...)`.

    **Raises:** `ValueError` for a tolerance that is negative or not finite, or if both are 0.

    >>> import diffrax as dfx
    >>> from purebrain.solvers import ETDRK2, adaptive
    >>> field = dfx.ODETerm(lambda t, y, args: -y)
    >>> control = adaptive(1e-6, 1e-9)
    >>> solution = dfx.diffeqsolve(field, ETDRK2(), 0, 1, 0.1, 2.0, stepsize_controller=control)
    """
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
            raise ValueError(
                f"{name}: {value!r}; it must be a finite number not below 0, such as "
                "adaptive(rtol=1e-6, atol=1e-9)."
            )
    if rtol == 0 and atol == 0:
        raise ValueError(
            "rtol, atol: both 0; no step could pass. Write adaptive(rtol=1e-6, atol=0)."
        )
    return dfx.PIDController(rtol=rtol, atol=atol, **options)
