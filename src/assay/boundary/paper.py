"""The publication behind this room."""

from __future__ import annotations

from ..core.methods import Citation

CITATION = Citation(
    key="xu2023exploring",
    title="Exploring and Exploiting Decision Boundary Dynamics for Adversarial Robustness",
    authors="Yuancheng Xu and Yanchao Sun and Micah Goldblum and Tom Goldstein and Furong Huang",
    year=2023,
    venue="International Conference on Learning Representations",
    arxiv="2302.03015",
)
