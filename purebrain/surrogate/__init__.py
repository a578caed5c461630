"""Spike functions: the step, and its surrogate derivatives."""

from ._abstract import AbstractSpike as AbstractSpike
from ._abstract import AbstractSurrogate as AbstractSurrogate
from ._arctan import ArcTan as ArcTan
from ._erf import Erf as Erf
from ._gaussian import Gaussian as Gaussian
from ._heaviside import Heaviside as Heaviside
from ._inverse_square import InverseSquare as InverseSquare
from ._leaky_relu import LeakyReLU as LeakyReLU
from ._log_tailed_relu import LogTailedReLU as LogTailedReLU
from ._multi_gaussian import MultiGaussian as MultiGaussian
from ._nonzero_sign_log import NonzeroSignLog as NonzeroSignLog
from ._piecewise_exponential import PiecewiseExponential as PiecewiseExponential
from ._piecewise_leaky_relu import PiecewiseLeakyReLU as PiecewiseLeakyReLU
from ._piecewise_linear import PiecewiseLinear as PiecewiseLinear
from ._piecewise_quadratic import PiecewiseQuadratic as PiecewiseQuadratic
from ._q_pseudo_spike import QPseudoSpike as QPseudoSpike
from ._relu import ReLU as ReLU
from ._s2nn import S2NN as S2NN
from ._sigmoid import Sigmoid as Sigmoid
from ._slayer import SLAYER as SLAYER
from ._soft_sign import SoftSign as SoftSign
from ._squarewave_fourier_series import SquarewaveFourierSeries as SquarewaveFourierSeries
from ._super_spike import SuperSpike as SuperSpike
