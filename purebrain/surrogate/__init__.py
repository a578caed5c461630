"""Spike functions: the step, and its surrogate derivatives."""

from ._abstract import AbstractSpike as AbstractSpike
from ._abstract import AbstractSurrogate as AbstractSurrogate
from ._arctan import ArcTan as ArcTan
from ._gaussian import Gaussian as Gaussian
from ._heaviside import Heaviside as Heaviside
from ._piecewise_linear import PiecewiseLinear as PiecewiseLinear
from ._sigmoid import Sigmoid as Sigmoid
from ._super_spike import SuperSpike as SuperSpike
