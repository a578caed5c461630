"""Kernels for any platform, in parallel: over all synapses, whether or not their neuron spiked.

They serve where there is no event kernel of the platform's own."""
