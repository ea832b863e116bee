"""The networks of `benchmarks/conversion.py`, what they are held against, and their report."""
