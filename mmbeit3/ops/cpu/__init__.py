"""Kernels that make a CPU fast, and what this one is good at; no model asks for them by itself.

:func:`mmbeit3.accelerate` puts them on a finished model.
"""
