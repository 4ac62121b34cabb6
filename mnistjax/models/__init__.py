"""Flax NNX modules, and the way from a module to a pure function."""
