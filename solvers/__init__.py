"""Solvers of differential equations, for a network's step and for `diffrax.diffeqsolve`:
`purebrain.solvers`.

All are diffrax solvers; diffrax's own are not repeated here. Which is which:

| method | class | order (embedded) |
|---|---|---|
| Euler | `diffrax.Euler` | 1 |
| midpoint | `diffrax.Midpoint` | 2 (1) |
| Heun, Heun-Euler (HE) | `diffrax.Heun` | 2 (1) |
| Ralston 2, RK2 | `diffrax.Ralston` | 2 (1) |
| RKF12 | `RKF12` | 2 (1) |
| RK3 (Kutta) | `RK3` | 3 (2) |
| SSPRK3 | `SSPRK3` | 3 (2) |
| Ralston 3, Bogacki-Shampine (BS) | `diffrax.Bosh3` | 3 (2) |
| RK4 | `RK4` | 4 |
| RK4, 3/8 rule | `RK438` | 4 |
| Ralston 4 | `Ralston4` | 4 |
| RKF45 | `RKF45` | 5 (4) |
| Cash-Karp (CK) | `CashKarp` | 5 (4) |
| Dormand-Prince (DP) | `diffrax.Dopri5` | 5 (4) |
| exponential Euler | `ExpEuler` | 1 |
| exponential Runge-Kutta | `ETDRK2`, `ETDRK4` | 2 (1), 4 (3) |
| exponential Rosenbrock | `ExpRosenbrockEuler`, `ExpRB32` | 2, 3 (2) |

For stochastic equations, with the strong order; in a network wrap the neuron with `Noisy`:

| method | Ito | Stratonovich |
|---|---|---|
| Euler-Maruyama, Heun | `diffrax.Euler` 0.5 | `diffrax.Heun` 1 |
| exponential Euler-Maruyama | `ExpEulerMaruyama` 0.5 | |
| Milstein | `diffrax.ItoMilstein` 1 | `diffrax.StratonovichMilstein` 1 |
| Milstein without derivatives | `ItoPlaten` 1 | `diffrax.EulerHeun` 1 |
| stochastic Runge-Kutta | | `diffrax.SlowRK` 1.5 |

This is for diagonal noise. Where its strength does not depend on the state, Ito and Stratonovich
agree, Euler-Maruyama and exponential Euler-Maruyama have order 1, as has `diffrax.SEA`, and
`diffrax.SRA1` and `diffrax.ShARK` have 1.5.

A method with an embedded one, or any in
`diffrax.HalfSolver`, takes adaptive steps: `stepsize_controller=adaptive(rtol=..., atol=...)`.
"""

if __name__ == "solvers":
    raise ImportError("Import `purebrain.solvers`; `solvers` alone is a folder of the source tree.")

from ._adaptive import adaptive as adaptive
from ._cascade import cascade as cascade
from ._dde import ddesolve as ddesolve
from ._event_solve import SPIKE_RESULTS as SPIKE_RESULTS
from ._event_solve import SpikeSolution as SpikeSolution
from ._event_solve import solve_spikes as solve_spikes
from ._exp_euler import ExpEuler as ExpEuler
from ._exp_euler_maruyama import ExpEulerMaruyama as ExpEulerMaruyama
from ._exp_rk import ETDRK2 as ETDRK2
from ._exp_rk import ETDRK4 as ETDRK4
from ._exp_rosenbrock import ExpRB32 as ExpRB32
from ._exp_rosenbrock import ExpRosenbrockEuler as ExpRosenbrockEuler
from ._fde import fdesolve as fdesolve
from ._fde_methods import AbstractFractionalMethod as AbstractFractionalMethod
from ._fde_methods import CaputoEuler as CaputoEuler
from ._fde_methods import CaputoL1 as CaputoL1
from ._fde_methods import GrunwaldLetnikov as GrunwaldLetnikov
from ._finite import Finite as Finite
from ._functions import PHI_1 as PHI_1
from ._functions import decay as decay
from ._functions import exprel as exprel
from ._functions import gate as gate
from ._functions import log_x_over_expm1 as log_x_over_expm1
from ._functions import phi_1 as phi_1
from ._functions import phi_2 as phi_2
from ._functions import x_over_expm1 as x_over_expm1
from ._history import Past as Past
from ._platen import ItoPlaten as ItoPlaten
from ._tableau import RK3 as RK3
from ._tableau import RK4 as RK4
from ._tableau import RK438 as RK438
from ._tableau import RKF12 as RKF12
from ._tableau import RKF45 as RKF45
from ._tableau import SSPRK3 as SSPRK3
from ._tableau import CashKarp as CashKarp
from ._tableau import Ralston4 as Ralston4
