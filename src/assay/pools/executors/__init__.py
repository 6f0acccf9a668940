"""Executors: where the units of a pool are trained: in this process, in processes beside it, or on a Ray cluster."""
