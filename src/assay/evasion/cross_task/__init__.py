"""The cross-task probe: one encoder on one task, attacked in its embedding space and at the task's output."""
