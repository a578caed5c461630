"""Pictures (needs matplotlib: `pip install 'purebrain[plot]'`)."""

from ._raster import raster as raster
