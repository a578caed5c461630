"""The kinds of products, as numbers: what compiled functions are compiled for."""

SCATTER, GATHER, OUTER = range(3)
