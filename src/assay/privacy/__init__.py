"""Privacy: training with differential privacy, its accounting, and who pays for it."""

METHODS: tuple[str, ...] = ()
