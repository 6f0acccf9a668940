"""A registry of its own, so that the tests of the report depend on no other room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assay.core.methods import MethodCard
from assay.report import citations

from .builder import AUTOATTACK, CARDS


@pytest.fixture(autouse=True, scope="package")
def registry() -> Iterator[None]:
    attack = MethodCard(
        name="apgd-ce",
        kind="attack",
        title="Auto-PGD on the cross-entropy",
        summary="Momentum steps.",
        settings="ApgdCE",
        citation=AUTOATTACK,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(citations, "cards", lambda: [*CARDS.values(), attack])
        yield
