"""An action on waiting mail as a page or an API answer tells it.

Shapes  Progress: a QueueAction with its words. VERBS: what people may ask for, in the order of the buttons.
"""

from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext as _

from relay.models import Message, QueueAction, Recipient
from relay.waiting.filters import STATES
from relay.waiting.verbs import WHY_NOT

Verb = QueueAction.Verb
VERBS: Final[tuple[tuple[Verb, Any], ...]] = tuple(
    (verb, verb.label) for verb in (Verb.RETRY, Verb.HOLD, Verb.RELEASE, Verb.CANCEL)
)


def verb_of(text: str) -> Verb | None:
    """None for what nobody may ask for."""
    return next((verb for verb, _label in VERBS if verb == text), None)


def verbs_for(message: Message) -> list[tuple[Verb, Any]]:
    """What makes sense for a message as it stands; none once nothing of it waits."""
    waiting = set(message.recipients.filter(state__in=STATES).values_list("state", "hold").distinct()[:1000])
    states = {state for state, _hold in waiting}
    sensible = {Verb.CANCEL} if states else set()
    if Recipient.State.QUEUED in states:
        sensible |= {Verb.RETRY, Verb.HOLD}
    if any(hold is not None for _state, hold in waiting):
        sensible.add(Verb.RELEASE)
    return [(verb, label) for verb, label in VERBS if verb in sensible]


@dataclass(frozen=True, slots=True)
class Progress:
    action: QueueAction

    @property
    def label(self) -> str:
        return str(self.action.get_verb_display())

    @property
    def is_open(self) -> bool:
        return self.action.finished_at is None

    @property
    def done(self) -> int:
        """Changed or left as they were, for a reason."""
        return self.action.changed + int(sum(self.action.skipped.values()))

    @property
    def left(self) -> list[tuple[int, str]]:
        """How many were left as they were, and why."""
        return [(number, str(WHY_NOT.get(why, why))) for why, number in sorted(self.action.skipped.items())]

    @property
    def words(self) -> str:
        action = self.action
        if action.total is None:
            return _("Waits for a worker.")
        if self.is_open and action.passes:
            return _("Waits for what is being delivered.")
        return _("%(done)s of %(total)s recipients") % {"done": f"{self.done:,}", "total": f"{action.total:,}"}
