"""Metrics: one confusion matrix per split, named scores derived from it."""
