"""Who signed in from where lately: what guessing must not take from them.

Shapes  For each address the names that succeeded, with the keyed digest of the secret where the mechanism shows it.
Units   seconds since 1970.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

RECENT_SECONDS = 7 * 24 * 3600.0
TELL_SECONDS = 600.0  # a success is told to other processes again after this
ADDRESSES_MAX = 50_000
NAMES_MAX = 200  # of one address


@dataclass(slots=True)
class Success:
    at: float
    tag: bytes | None


class Trust:
    """The addresses that were not heard of longest are forgotten first."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, OrderedDict[str, Success]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._addresses)

    def address(self, ip: str, now: float) -> bool:
        """Somebody signed in from it lately."""
        names = self._addresses.get(ip)
        return names is not None and now - next(reversed(names.values())).at < RECENT_SECONDS

    def pair(self, ip: str, name: str, now: float) -> bool:
        names = self._addresses.get(ip)
        success = names.get(name) if names is not None else None
        return success is not None and now - success.at < RECENT_SECONDS

    def knows(self, ip: str, name: str, tag: Callable[[], bytes | None], now: float) -> bool:
        """True if this very secret succeeded for this name from this address lately."""
        names = self._addresses.get(ip)
        success = names.get(name) if names is not None else None
        if success is None or success.tag is None or now - success.at >= RECENT_SECONDS:
            return False
        return success.tag == tag()

    def note(self, ip: str, name: str, tag: Callable[[], bytes | None] | bytes | None, now: float) -> bool:
        """True if it is news. A success that was noted within TELL_SECONDS is not looked at again."""
        names = self._addresses.get(ip)
        if names is None:
            names = self._addresses[ip] = OrderedDict()
            if len(self._addresses) > ADDRESSES_MAX:
                self._addresses.popitem(last=False)
        success = names.get(name)
        if success is not None and now - success.at < TELL_SECONDS:
            if success.tag is None:
                success.tag = tag() if callable(tag) else tag
            return False
        names[name] = Success(now, tag() if callable(tag) else tag)
        names.move_to_end(name)
        self._addresses.move_to_end(ip)
        if len(names) > NAMES_MAX:
            names.popitem(last=False)
        return True
