"""The version, where KerasSpiking had it."""

version = "1.0.0.dev0"
