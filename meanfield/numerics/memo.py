"""Values kept for the process, a bounded number of them."""

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
        if key not in self._kept:
            self._kept[key] = made = make()
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return made
        value = self._kept[key] = self._kept.pop(key)  # the newest now
        return value
