"""Synaptic kinetics."""

from ._abstract import AbstractExponentialSynapse as AbstractExponentialSynapse
from ._abstract import AbstractLinearSynapse as AbstractLinearSynapse
from ._abstract import AbstractSynapse as AbstractSynapse
from ._averaged import Averaged as Averaged
from ._biexponential import Alpha as Alpha
from ._biexponential import BiExponential as BiExponential
from ._exponential import Exponential as Exponential
from ._psp import alpha_psp as alpha_psp
from ._psp import alpha_psp_peak as alpha_psp_peak
from ._psp import biexp_psp as biexp_psp
from ._psp import biexp_psp_peak as biexp_psp_peak
from ._psp import delta_psp as delta_psp
from ._psp import exp_psp as exp_psp
from ._psp import exp_psp_peak as exp_psp_peak
