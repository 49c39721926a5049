"""Values kept for the process, a bounded number of them."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """The last ``most`` values that were asked for, by key."""

    def __init__(self, most: int):
        self._most = most
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value kept under ``key``, made now if there is none. Two threads may both make it."""
        try:
            value = self._kept[key]
        except KeyError:
            value = self._kept[key] = make()
            while len(self._kept) > self._most:
                self._forget_oldest()
            return value
        with contextlib.suppress(KeyError):  # another thread may have taken it out
            self._kept.move_to_end(key)
        return value

    def _forget_oldest(self) -> None:
        with contextlib.suppress(KeyError):
            self._kept.popitem(last=False)
