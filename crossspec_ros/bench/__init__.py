"""Benchmarks: they report, they do not assert."""
