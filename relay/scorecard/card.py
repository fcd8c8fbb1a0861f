"""The scorecard: thirteen practices of a well-kept relay, each fulfilled, not fulfilled, or not measured.

Shapes  PRACTICES: number, title and meaning of each. A Check looks at facts and gives a Verdict, whose evidence is
        words with figures. scorecard() -> Row for each practice, in order.
Units   Facts of the last days, from daily and hourly sums: a whole card is some ten small queries.
Errors  A practice for which there is no evidence yet is "unmeasured": never "fulfilled".
        A check that breaks is unmeasured as well, and logged.
Source  docs/security.md, "The scorecard".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from django.db import DatabaseError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from relay.logs import get_logger

if TYPE_CHECKING:  # the stubs' name for what gettext_lazy gives
    from django.utils.functional import _StrPromise

log = get_logger(__name__)

Facts = TypeVar("Facts")


class State(StrEnum):
    FULFILLED = "fulfilled"
    NOT = "not"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True, slots=True)
class Practice:
    number: int
    title: "_StrPromise"
    meaning: "_StrPromise"


PRACTICES: Final = tuple(
    Practice(number, title, meaning)
    for number, (title, meaning) in enumerate(
        (
            (
                gettext_lazy("Strong mechanisms"),
                gettext_lazy("SCRAM-SHA-256, OAuth 2.0, PLAIN and LOGIN under TLS; no CRAM-MD5."),
            ),
            (gettext_lazy("TLS always"), gettext_lazy("Nobody signs in without TLS, nor with one older than 1.2.")),
            (
                gettext_lazy("Known networks"),
                gettext_lazy("Every SMTP user signs in from allowed addresses alone."),
            ),
            (gettext_lazy("Second factor"), gettext_lazy("Whoever uses the panel has a second factor.")),
            (
                gettext_lazy("App passwords only"),
                gettext_lazy("What signs in has a secret of its own; a person's password never works."),
            ),
            (
                gettext_lazy("Passwords end"),
                gettext_lazy("App passwords expire or are replaced, and panel passwords are strong."),
            ),
            (
                gettext_lazy("Everything is recorded"),
                gettext_lazy("Every attempt is in the auth log, every change in the chained log."),
            ),
            (
                gettext_lazy("Dedicated accounts"),
                gettext_lazy("SMTP users are applications and devices, not people."),
            ),
            (gettext_lazy("Kept updated"), gettext_lazy("No known weakness in what it runs on.")),
            (gettext_lazy("Limits"), gettext_lazy("A leaked credential cannot send without end.")),
            (gettext_lazy("SPF, DKIM, DMARC"), gettext_lazy("Receivers can tell that mail is really yours.")),
            (
                gettext_lazy("No hard-coded secrets"),
                gettext_lazy("Secrets live in the environment, and one that leaks is noticed."),
            ),
            (gettext_lazy("Tested regularly"), gettext_lazy("Somebody looks whether all of it still works.")),
        ),
        start=1,
    )
)


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    evidence: str


@dataclass(frozen=True, slots=True)
class Fix:
    """Where it is mended: a URL name without arguments, and the link's words."""

    url_name: str
    label: "_StrPromise"


@dataclass(frozen=True, slots=True)
class Check(Generic[Facts]):
    look: Callable[[Facts], Verdict]
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Row:
    practice: Practice
    state: State
    evidence: str
    fix: Fix | None


@dataclass(frozen=True, slots=True)
class Counts:
    fulfilled: int
    missed: int
    unmeasured: int


def counted(rows: list[Row]) -> Counts:
    states = [row.state for row in rows]
    return Counts(states.count(State.FULFILLED), states.count(State.NOT), states.count(State.UNMEASURED))


def fulfilled(evidence: str, **figures: object) -> Verdict:
    """Of a text with %(name)s for each figure; numbers are written with thousands apart."""
    return Verdict(State.FULFILLED, _told(evidence, figures))


def missed(evidence: str, **figures: object) -> Verdict:
    return Verdict(State.NOT, _told(evidence, figures))


def unmeasured(evidence: str, **figures: object) -> Verdict:
    return Verdict(State.UNMEASURED, _told(evidence, figures))


def _told(evidence: str, figures: dict[str, object]) -> str:
    shown = {name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in figures.items()}
    return evidence % shown if shown else evidence


def scorecard(facts: Facts, checks: Mapping[int, Check[Facts]]) -> list[Row]:
    """Each practice with what its check found."""
    return [_row(practice, facts, checks[practice.number]) for practice in PRACTICES]


def _row(practice: Practice, facts: Facts, check: Check[Facts]) -> Row:
    try:
        verdict = check.look(facts)
    except DatabaseError:
        raise  # no page can be made then, and the transaction is over
    except Exception:
        log.exception("scorecard.check_failed", practice=practice.number)
        verdict = unmeasured(_("The check itself failed. The operator finds the cause in the log."))
    return Row(practice, verdict.state, verdict.evidence, check.fix)


def named(names: list[str], most: int = 3) -> str:
    """Some of them, and how many more there are."""
    shown = ", ".join(names[:most])
    more = len(names) - most
    return _("%(names)s and %(more)d more") % {"names": shown, "more": more} if more > 0 else shown
