"""What a panel password must be: strong by estimate for everybody, and stricter where an organization says so.

Shapes  Policy: the strictest rules of a person's organizations together. Django calls the two validators by settings.
Units   zxcvbn's score 0..4, at least 3. Length: 12 (Django's validator) to 1,024 characters.
Errors  ValidationError with advice that says what to do, not what is forbidden.
Source  NIST SP 800-63B 5.1.1.2; zxcvbn.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth.hashers import check_password
from django.core.exceptions import ValidationError
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from zxcvbn import zxcvbn

from accounts.models import Organization, User

LONGEST: Final = 1024
LEAST_SCORE: Final = 3
_ESTIMATED: Final = 72  # characters; the estimate's cost grows with the square of the length


@dataclass(frozen=True, slots=True)
class Policy:
    classes: int = 0  # of four: lower-case, upper-case, digits, others
    max_age_days: int | None = None
    history: int = 0


def policy_for(organizations: Iterable[Organization]) -> Policy:
    """The strictest of each rule."""
    found = list(organizations)
    ages = [o.password_max_age_days for o in found if o.password_max_age_days is not None]
    return Policy(
        classes=max((o.password_classes for o in found), default=0),
        max_age_days=min(ages, default=None),
        history=max((o.password_history_length for o in found), default=0),
    )


def policy_of(user: User) -> Policy:
    return policy_for(Organization.objects.filter(memberships__user=user)) if user.pk else Policy()


def check_classes(password: str, policy: Policy) -> None:
    """Separately, because who accepts an invitation is not a member yet."""
    if _classes_in(password) < policy.classes:
        raise ValidationError(
            _("Your organization asks for %(count)d of these four: lower-case, upper-case, digits, other characters."),
            code="password_classes",
            params={"count": policy.classes},
        )


class StrengthValidator:
    """Refuses what a guessing program finds early, and says which part is easy."""

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) > LONGEST:
            raise ValidationError(
                _("Use %(most)d characters at most."), code="password_too_long", params={"most": LONGEST}
            )
        found = zxcvbn(password[:_ESTIMATED], user_inputs=_known_about(user))
        if found["score"] < LEAST_SCORE:
            raise ValidationError(_advice(found), code="password_too_easy")

    def get_help_text(self) -> str:
        return str(_("Four or five words that have nothing to do with each other are strong and easy to remember."))


class OrganizationPolicyValidator:
    """Character classes and history, as the person's organizations ask."""

    def validate(self, password: str, user: Any = None) -> None:
        if not isinstance(user, User):
            return
        policy = policy_of(user)
        check_classes(password, policy)
        if policy.history and _was_used(password, user, policy.history):
            raise ValidationError(
                ngettext(
                    "This password was used before. The last %(count)d may not return.",
                    "This password was used before. The last %(count)d may not return.",
                    policy.history,
                ),
                code="password_reused",
                params={"count": policy.history},
            )

    def get_help_text(self) -> str:
        return ""


def _classes_in(password: str) -> int:
    tests = (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())
    return sum(any(test(character) for character in password) for test in tests)


def _was_used(password: str, user: User, history: int) -> bool:
    """The one in use counts as the last."""
    earlier = user.password_history.order_by("-replaced_at", "-pk").values_list("password", flat=True)
    return any(check_password(password, stored) for stored in [user.password, *earlier[: history - 1]] if stored)


def _known_about(user: Any) -> list[str]:
    if not isinstance(user, User):
        return ["gatepost"]
    known = ["gatepost", user.email, *user.email.replace("@", ".").split("."), user.name, *user.name.split()]
    return [word for word in known if word]


def _advice(found: dict[str, Any]) -> str:
    """The estimate's own words are English fragments: each has a sentence of ours."""
    parts = [str(_WARNINGS[w]) for w in [found["feedback"].get("warning")] if w in _WARNINGS]
    if any(match.get("dictionary_name") == "user_inputs" for match in found["sequence"]):
        parts.append(str(_PATTERNS["own"]))
    parts.append(str(_("Add a word or two that nobody would expect next to the others.")))
    return " ".join([str(_("This password is too easy to guess.")), *parts])


_PATTERNS: Final[dict[str, Promise]] = {
    "keys": _("Rows of keys and keyboard patterns are tried early."),
    "repeats": _("Repeating the same characters adds next to nothing."),
    "sequences": _("Sequences like abc or 6543 add next to nothing."),
    "dates": _("Years and dates are tried early, those of your own life first."),
    "common": _("It is, or resembles, a password that many people use."),
    "word": _("A single word is tried early, whatever its spelling."),
    "own": _("Whoever guesses tries your name, your address or this site's name first."),
    "names": _("Names are tried early."),
}
_WARNINGS: Final[dict[str, Promise]] = {
    "Straight rows of keys are easy to guess.": _PATTERNS["keys"],
    "Short keyboard patterns are easy to guess.": _PATTERNS["keys"],
    'Repeats like "aaa" are easy to guess.': _PATTERNS["repeats"],
    'Repeats like "abcabcabc" are only slightly harder to guess than "abc".': _PATTERNS["repeats"],
    'Sequences like "abc" or "6543" are easy to guess.': _PATTERNS["sequences"],
    "Recent years are easy to guess.": _PATTERNS["dates"],
    "Dates are often easy to guess.": _PATTERNS["dates"],
    "This is a top-10 common password.": _PATTERNS["common"],
    "This is a top-100 common password.": _PATTERNS["common"],
    "This is a very common password.": _PATTERNS["common"],
    "This is similar to a commonly used password.": _PATTERNS["common"],
    "A word by itself is easy to guess.": _PATTERNS["word"],
    "Names and surnames by themselves are easy to guess.": _PATTERNS["names"],
    "Common names and surnames are easy to guess.": _PATTERNS["names"],
}
