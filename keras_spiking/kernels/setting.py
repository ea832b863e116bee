"""The name that `keras_spiking.config.set_kernels` was last given."""

name = "auto"
