"""Kernels for the CPU, in pure JAX: functions of one platform, used by the operators only."""
