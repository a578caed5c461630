"""Reservoir computing: fixed random dynamics, and a linear readout that is solved for."""

from ._closed_loop import ClosedLoop as ClosedLoop
from ._echo_state import EchoState as EchoState
from ._echo_state import scaled as scaled
from ._force import Force as Force
from ._force import ForceState as ForceState
from ._nvar import NVAR as NVAR
from ._ridge import Ridge as Ridge
from ._ridge import RidgeState as RidgeState
from ._ridge import ridge as ridge
from ._rls import RLS as RLS
from ._rls import RLSState as RLSState
