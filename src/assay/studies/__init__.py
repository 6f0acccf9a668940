"""Studies: a suite becomes a plan, the plan becomes runs, and the runs answer the claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .audit import Study, audit
    from .checking import check_runs, load_claims
    from .compare import compare
    from .cost import plan
    from .suite import Suite, load_suite

__all__ = ["Study", "Suite", "audit", "check_runs", "compare", "load_claims", "load_suite", "plan"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Study": ".audit",
        "Suite": ".suite",
        "audit": ".audit",
        "check_runs": ".checking",
        "compare": ".compare",
        "load_claims": ".checking",
        "load_suite": ".suite",
        "plan": ".cost",
    },
)
