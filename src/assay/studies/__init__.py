"""Studies: a suite becomes a plan, the plan becomes runs, and the runs answer the claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .auditing import Study, audit
    from .checking import check_runs, load_claims
    from .comparison import compare
    from .cost import plan
    from .suite import Suite, load_suite

__all__ = ["Study", "Suite", "audit", "check_runs", "compare", "load_claims", "load_suite", "plan"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Study": ".auditing",
        "Suite": ".suite",
        "audit": ".auditing",
        "check_runs": ".checking",
        "compare": ".comparison",
        "load_claims": ".checking",
        "load_suite": ".suite",
        "plan": ".cost",
    },
)
