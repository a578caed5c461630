"""Connectivity rules. A projection calls its rule with its sizes: `rule(n_pre, n_post)`.

Synapses are drawn on the host, with NumPy.
"""

from ._all_to_all import all_to_all as all_to_all
from ._dense import dense as dense
from ._fixed_degree import fixed_indegree as fixed_indegree
from ._fixed_degree import fixed_outdegree as fixed_outdegree
from ._fixed_prob import fixed_prob as fixed_prob
from ._fixed_total_number import fixed_total_number as fixed_total_number
from ._from_coo import from_coo as from_coo
from ._from_csr import from_csr as from_csr
from ._from_csr import from_scipy as from_scipy
from ._jit import jit as jit
from ._one_to_one import one_to_one as one_to_one
