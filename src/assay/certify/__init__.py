"""Certify: robustness that is proved, by randomized smoothing."""

METHODS: tuple[str, ...] = ()
