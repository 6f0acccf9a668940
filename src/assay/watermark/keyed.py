"""Objects that hold a key: they cannot be pickled, by which keys end up in caches and logs."""

from __future__ import annotations

from typing import Any, NoReturn, Self

from ..core.errors import Unsupported


class Keyed:
    """Base class of what holds a key. Instances do not change, so that a copy is the object itself."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise Unsupported(
            f"{type(self).__name__} holds a key and is not pickled. Send its settings (settings.to_json()), and let "
            "the other side read the key itself."
        )
