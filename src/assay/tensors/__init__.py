"""Tensors: pure functions on tensors; norms and projections, random streams that belong to a sample."""
