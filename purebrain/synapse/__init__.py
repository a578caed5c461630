"""Synaptic kinetics."""

from ._abstract import AbstractLinearSynapse as AbstractLinearSynapse
from ._abstract import AbstractSynapse as AbstractSynapse
from ._exponential import Exponential as Exponential
