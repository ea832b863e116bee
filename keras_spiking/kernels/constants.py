"""The numbers that all kernels share. No framework is needed here, nor Keras."""

import math

# Binary digits of the grid that voltages lie on, by the type of floats that holds them.
DIGITS = {"float32": 23, "float64": 52}
# The integers that hold sums of voltages in steps of that grid, and how many bits they have.
INTEGERS = {"float32": "int32", "float64": "int64"}
BITS = {"float32": 32, "float64": 64}
# The most spikes in a step: the largest power of two whose product with the grid is finite.
MOST_IN_STEP = {"float32": 2.0**104, "float64": 2.0**971}
# The most spikes in a running sum or count: whole numbers up to this one are exact in float32.
MOST_SPIKES = 2.0**24
# 1 - (1 + x) exp(-x) as a power series: the factor of each power of x from 2 on. To double
# precision for x < 0.5.
ALPHA_SERIES = tuple((-1) ** n * (n - 1) / math.factorial(n) for n in range(2, 17))
