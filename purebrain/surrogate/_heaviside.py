from ._abstract import AbstractSpike


class Heaviside(AbstractSpike):
    """The step itself. Spikes are booleans, kept as bits, 32 to a word; they have no derivative.

    For networks that are run and not trained: see `purebrain.inference_mode`.
    """

    def __call__(self, x):
        return x >= 0
