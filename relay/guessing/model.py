"""The rules against guessing, as a model without I/O: counters in memory, and what follows from them.

Shapes  wait() before a login is judged; failed(), put_off() or succeeded() after it, each with the login's Try.
        What another process counted is told in the same way. failed() and put_off() may name Culprits: ranges to ban.
Units   now: seconds since 1970, the clock that all processes share. wait: whole seconds.
Errors  None.
Source  docs/security.md, Guessing.

Who fails is counted by pair (address and name), by address, and by neighbourhood (/24 or /64). A login that was
refused with the same secret before tells nobody anything new, so it counts once: a device with an old password never
adds up. No rule looks at a name alone, so nobody can keep its owner out from elsewhere: a name that is guessed at
everywhere only makes the failures of strangers weigh more. A pair that succeeded lately is not held back by what its
address or neighbourhood does, and the very secret that succeeded lately from an address is never held back there.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from relay.guessing.addresses import host_range, is_shared, neighbourhood
from relay.guessing.buckets import Buckets, Rule
from relay.guessing.trust import Trust

PAIR = Rule(most=5, every=60)
ADDRESS = Rule(most=20, every=30)
TRUSTED_ADDRESS = Rule(most=100, every=30)  # somebody signs in from it: a site behind one address
NEIGHBOURHOOD = Rule(most=100, every=6)  # a /24, of strangers to each other
NAME = Rule(most=50, every=60)  # beyond it a name is under attack
ADDRESS_PRESSURE = Rule(most=60, every=120)
NEIGHBOURHOOD_PRESSURE = Rule(most=300, every=30)

UNDER_ATTACK_WEIGHT = 3.0
PER_NAME_MAX = 3  # what one name adds to its address at most
UNREAD_PER_NAME_MAX = 3  # as many to the pressure where a secret cannot be told from the last one (SCRAM, CRAM-MD5)
ADDRESSES_OF_A_RANGE = 10  # from fewer no /24 is banned: each of them is, by itself
REMEMBERED_TAGS = 32
REMEMBERED_SECONDS = 24 * 3600.0
KEYS_MAX = 100_000
SAMPLES_MAX = 20


@dataclass(frozen=True, slots=True)
class Try:
    """One login: who, from where. tag() is a keyed digest of its secret, or None if the mechanism does not show it."""

    ip: str
    name: str  # canonical: as the directory looks it up
    tag: Callable[[], bytes | None]


@dataclass(frozen=True, slots=True)
class Culprit:
    """A range that should be banned, and why."""

    cidr: str
    failures: int
    names: tuple[str, ...]
    addresses: int
    first_at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class Counted:
    """is_new: it was no repetition, so that other processes should count it too."""

    is_new: bool
    culprits: tuple[Culprit, ...] = ()


REPEATED = Counted(is_new=False)


@dataclass(slots=True)
class Pair:
    """What one address did with one name."""

    level: float = 0.0
    at: float = 0.0
    tags: "OrderedDict[bytes, None]" = field(default_factory=OrderedDict)
    told_address: int = 0
    unread: int = 0

    def level_at(self, now: float) -> float:
        return max(0.0, self.level - max(0.0, now - self.at) / PAIR.every)


@dataclass(slots=True)
class Trace:
    """Evidence against an address or a neighbourhood, while its pressure lasts."""

    first_at: float
    failures: int = 0
    names: dict[str, None] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)


class Model:
    def __init__(
        self,
        *,
        protected: Container[str],
        trust: Trust | None = None,
        keys_max: int = KEYS_MAX,
    ) -> None:
        """protected: addresses for which only the rule of the pair holds, and that are never banned."""
        self._protected = protected
        self.trust = trust or Trust()
        self._keys_max = keys_max
        self._pairs: OrderedDict[tuple[str, str], Pair] = OrderedDict()
        self._addresses: Buckets[str] = Buckets(ADDRESS, keys_max=keys_max, level_max=110)
        self._ranges: Buckets[str] = Buckets(NEIGHBOURHOOD, keys_max=keys_max, level_max=110)
        self._names: Buckets[str] = Buckets(NAME, keys_max=keys_max, level_max=200)
        self._pressure: Buckets[str] = Buckets(ADDRESS_PRESSURE, keys_max=keys_max, level_max=1000)
        self._range_pressure: Buckets[str] = Buckets(NEIGHBOURHOOD_PRESSURE, keys_max=keys_max, level_max=1000)
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    # --- Before --------------------------------------------------------------------------------------------------

    def wait(self, each: Try, now: float) -> int:
        """Seconds that this login must wait; 0: judge it."""
        wait = self._pair_wait(each, now)
        if each.ip not in self._protected and not self.trust.pair(each.ip, each.name, now):
            wait = max(wait, self._address_wait(each.ip, now))
        if wait <= 0:
            return 0
        if self.trust.knows(each.ip, each.name, each.tag, now):
            return 0
        return math.ceil(wait)

    def _pair_wait(self, each: Try, now: float) -> float:
        pair = self._pairs.get((each.ip, each.name))
        return PAIR.wait(pair.level_at(now)) if pair is not None else 0.0

    def _address_wait(self, ip: str, now: float) -> float:
        level = self._addresses.level(ip, now)
        around = self._ranges.level(neighbourhood(ip), now)
        if self.trust.address(ip, now):  # one of a /64 signs in easily from all of it: that must not buy it more
            return TRUSTED_ADDRESS.wait(level if is_shared(ip) else around)
        return max(ADDRESS.wait(level), (NEIGHBOURHOOD if is_shared(ip) else ADDRESS).wait(around))

    # --- After ---------------------------------------------------------------------------------------------------

    def succeeded(self, each: Try, now: float) -> bool:
        """True if other processes should hear of it: it is the first for a while."""
        return self.trust.note(each.ip, each.name, each.tag, now)

    def failed(self, each: Try, now: float) -> Counted:
        """Counts a refused login, if it is a new one."""
        pair = self._pair(each, now)
        tag = each.tag()
        if not _is_new(pair, tag):
            return REPEATED
        pair.level = min(PAIR.most + 5, pair.level_at(now) + self._weight(each, now))
        pair.at = max(pair.at, now)
        self._names.add(each.name, now)
        if each.ip in self._protected:
            return Counted(is_new=True)
        if pair.told_address < PER_NAME_MAX:
            pair.told_address += 1
            weight = self._weight(each, now)
            self._addresses.add(each.ip, now, weight)
            self._ranges.add(neighbourhood(each.ip), now, weight)
        return Counted(is_new=True, culprits=tuple(self._press(each, pair, tag, now)))

    def put_off(self, each: Try, now: float) -> Counted:
        """Counts a login that had to wait: whoever goes on guessing all the same is banned in the end."""
        pair = self._pair(each, now)
        tag = each.tag()
        # A mark of its own: a guess that was sent while it had to wait still counts when it is judged.
        if not _is_new(pair, tag and b"waited" + tag) or each.ip in self._protected:
            return REPEATED
        return Counted(is_new=True, culprits=tuple(self._press(each, pair, tag, now)))

    def forget(self, *cidrs: str) -> None:
        """Lifted bans begin anew: what was counted against the ranges is gone. Many are as quick as one: all addresses
        are looked at, while every session waits."""
        gone = set(cidrs)
        for cidr in gone:
            for buckets in (self._ranges, self._pressure, self._range_pressure):
                buckets.forget(cidr)
            self._traces.pop(cidr, None)
        ips = {*self._addresses, *(ip for ip, _name in self._pairs)}
        inside = {ip for ip in ips if host_range(ip) in gone or neighbourhood(ip) in gone}
        for ip in inside:
            self._addresses.forget(ip)
            self._pressure.forget(host_range(ip))
        for pair in [pair for pair in self._pairs if pair[0] in inside]:
            del self._pairs[pair]

    def _pair(self, each: Try, now: float) -> Pair:
        key = each.ip, each.name
        pair = self._pairs.get(key)
        if pair is None or now - pair.at > REMEMBERED_SECONDS:
            pair = self._pairs[key] = Pair(at=now)
        self._pairs.move_to_end(key)
        if len(self._pairs) > self._keys_max:
            self._pairs.popitem(last=False)
        return pair

    def _weight(self, each: Try, now: float) -> float:
        under_attack = self._names.level(each.name, now) >= NAME.most
        return UNDER_ATTACK_WEIGHT if under_attack and not self.trust.pair(each.ip, each.name, now) else 1.0

    # --- Bans ----------------------------------------------------------------------------------------------------

    def _press(self, each: Try, pair: Pair, tag: bytes | None, now: float) -> list[Culprit]:
        """Adds to what leads to a ban. An address from which somebody signs in is never banned."""
        if self.trust.address(each.ip, now):
            return []
        if tag is None:
            if pair.unread >= UNREAD_PER_NAME_MAX:
                return []
            pair.unread += 1
        found = []
        if is_shared(each.ip):
            found.append(self._pressed(self._pressure, ADDRESS_PRESSURE, host_range(each.ip), each, now))
            around = neighbourhood(each.ip)
            found.append(self._pressed(self._range_pressure, NEIGHBOURHOOD_PRESSURE, around, each, now))
        else:
            found.append(self._pressed(self._pressure, ADDRESS_PRESSURE, neighbourhood(each.ip), each, now))
        return [culprit for culprit in found if culprit]

    def _pressed(self, pressure: Buckets[str], rule: Rule, cidr: str, each: Try, now: float) -> Culprit | None:
        if pressure.level(cidr, now) == 0:
            self._traces.pop(cidr, None)
        level = pressure.add(cidr, now)
        trace = self._trace(cidr, each, now)
        if level < rule.most or (cidr.endswith("/24") and len(trace.addresses) < ADDRESSES_OF_A_RANGE):
            return None
        pressure.forget(cidr)
        del self._traces[cidr]
        return Culprit(cidr, trace.failures, tuple(trace.names), len(trace.addresses), trace.first_at, now)

    def _trace(self, cidr: str, each: Try, now: float) -> Trace:
        trace = self._traces.get(cidr)
        if trace is None:
            trace = self._traces[cidr] = Trace(now)
        self._traces.move_to_end(cidr)
        if len(self._traces) > self._keys_max // 10:
            self._traces.popitem(last=False)
        trace.failures += 1
        if len(trace.names) < SAMPLES_MAX:
            trace.names[each.name] = None
        if len(trace.addresses) < 256:
            trace.addresses.add(each.ip)
        return trace


def _is_new(pair: Pair, tag: bytes | None) -> bool:
    """False for a secret that was refused here before; it is kept as the newest all the same."""
    if tag is None:
        return True
    known = tag in pair.tags
    pair.tags[tag] = None
    pair.tags.move_to_end(tag)
    if len(pair.tags) > REMEMBERED_TAGS:
        pair.tags.popitem(last=False)
    return not known
