"""The kinds of products, as numbers: what compiled functions are compiled for."""

SCATTER, GATHER, OUTER = range(3)
ONE, UNIFORM, NORMAL = range(3)  # laws of the weights of random matrices: one weight, or drawn
