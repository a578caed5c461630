"""Exponential integrators that work with diffrax: `purebrain.solvers`."""

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
