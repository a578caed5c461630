"""Event-driven connectivity operators: `purebrain.ops`."""

if __name__ == "ops":
    raise ImportError("Import `purebrain.ops`; `ops` alone is a folder of the source tree.")

from . import brainpylib as brainpylib
from ._all_to_all import AllToAll as AllToAll
from ._compose import Block as Block
from ._csr import CSR as CSR
from ._delayed_csr import DelayedCSR as DelayedCSR
from ._dense import Dense as Dense
from ._fixed_indegree import FixedIndegree as FixedIndegree
from ._fixed_outdegree import FixedOutdegree as FixedOutdegree
from ._jit import JIT as JIT
from ._jit import jit_homogeneous as jit_homogeneous
from ._jit import jit_normal as jit_normal
from ._jit import jit_uniform as jit_uniform
from ._one_to_one import OneToOne as OneToOne
from ._operator import AbstractOperator as AbstractOperator
from ._operator import Part as Part
from ._operator import Scaled as Scaled
from ._operator import Sum as Sum
from ._schedule import after as after
from ._schedule import materialize as materialize
from ._schedule import materialize_cotangent as materialize_cotangent
from ._spectral_radius import spectral_radius as spectral_radius
from ._spikes import Spikes as Spikes
from ._spikes import pack as pack
from ._tuned import tuned as tuned
