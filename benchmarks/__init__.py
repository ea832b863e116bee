"""How fast the layers are: `python -m benchmarks`, or `make bench`, prints and keeps the table.

Nothing here is installed with the package. Times depend on the machine and on what else runs, so
every figure is a ratio of times measured in one process, alternating, after warm-up.
"""
