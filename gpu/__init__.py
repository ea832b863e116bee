"""Kernels for GPUs, which no GPU has run yet: no part of the package; see README.rst."""
