"""Forms of the learning of an allowlist: how long, and the proposed ranges as people edit them.

Shapes  LearningForm: days to come and days that the log holds already. ranges_of() -> a formset of RangeForm; a row
        that is not kept, or empty, is left out.
Units   ends_on: the last day, UTC; the range ends with it.
Errors  Form errors, those of relay.networks among them.
"""

from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms import BaseFormSet, formset_factory
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from relay.learning import DraftRange
from relay.networks import LABEL_MAX, NETWORKS_MAX, parse_network

DAYS = ((0, _("Not at all: propose at once")), (7, _("7 days")), (14, _("14 days")), (30, _("30 days")))
HISTORY = ((0, _("Nothing: only what comes from now on")), (7, _("The last 7 days")), (30, _("The last 30 days")))
MORE = 2  # empty rows, for ranges that nobody has used yet


class LearningForm(forms.Form):
    """most: days that the log is kept, beyond which nothing can be learned."""

    history_days = forms.TypedChoiceField(
        label=_("From the log"), coerce=int, help_text=_("Sign-ins that are recorded already.")
    )
    days = forms.TypedChoiceField(
        label=_("Record on for"), coerce=int, help_text=_("Learning refuses nobody. You may end it earlier.")
    )

    def __init__(self, *args: Any, most: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._most = most
        for name, choices, initial in (("history_days", HISTORY, 7), ("days", DAYS, 7)):
            field = self.fields[name]
            assert isinstance(field, forms.TypedChoiceField)
            field.choices = [(str(days), words) for days, words in choices if days <= most]
            field.initial = str(initial)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "days" in cleaned and "history_days" in cleaned:
            total = cleaned["days"] + cleaned["history_days"]
            if not 1 <= total <= self._most:
                text = _("The log is kept for %(most)d days: learn from 1 to %(most)d days in all.")
                raise ValidationError(text, params={"most": self._most})
        return cleaned


class RangeForm(forms.Form):
    keep = forms.BooleanField(label=_("Allow"), required=False, initial=True)
    cidr = forms.CharField(
        label=_("Address or range"),
        max_length=64,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    label = forms.CharField(label=_("Label"), max_length=LABEL_MAX, required=False)
    ends_on = forms.DateField(
        label=_("Last day"), required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )

    def is_kept(self) -> bool:
        return bool(self.cleaned_data.get("keep") and self.cleaned_data.get("cidr"))

    def clean(self) -> dict[str, Any]:
        """A row that is left out may hold anything."""
        cleaned: dict[str, Any] = super().clean() or {}
        typed = str(self.data.get(self.add_prefix("cidr")) or "").strip()
        if not cleaned.get("keep") or not typed:
            self.errors.clear()
            return cleaned
        if "cidr" in cleaned:  # else its own error stands already
            try:
                cleaned["network"] = parse_network(cleaned["cidr"])
            except ValidationError as refused:
                self.add_error("cidr", refused)
        if (day := cleaned.get("ends_on")) and day < timezone.localdate():
            self.add_error("ends_on", _("That day is over."))
        return cleaned

    def draft_range(self) -> DraftRange:
        day = self.cleaned_data["ends_on"]
        ends_at = timezone.make_aware(datetime.combine(day + timedelta(days=1), time.min)) if day else None
        return DraftRange(self.cleaned_data["network"], self.cleaned_data["label"].strip(), ends_at)


_RangeSet = formset_factory(
    RangeForm, extra=MORE, max_num=NETWORKS_MAX + MORE, absolute_max=NETWORKS_MAX + MORE, validate_max=True
)


def ranges_of(sent: QueryDict | None, ranges: Iterable[DraftRange] = ()) -> "BaseFormSet[RangeForm]":
    """What was sent, or the draft with some empty rows."""
    initial = [
        {
            "keep": True,
            "cidr": each.cidr,
            "label": each.label,
            "ends_on": (each.ends_at - timedelta(days=1)).date() if each.ends_at else None,
        }
        for each in ranges
    ]
    return _RangeSet(sent, prefix="range", initial=None if sent is not None else initial)
