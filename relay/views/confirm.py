"""The page that asks before something that cannot be undone: it works without a script, and says what will happen."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from relay.networks import RefusedLogin


@dataclass(frozen=True, slots=True)
class Question:
    title: str
    text: str
    action: str  # the button's word
    back: str
    dangerous: bool = True
    refused: Sequence[RefusedLogin] = ()  # sign-ins of the last days that this would have stopped
    values: Sequence[tuple[str, str]] = ()  # hidden fields to send along


def ask(request: HttpRequest, question: Question) -> HttpResponse:
    return render(request, "relay/confirm.html", {"question": question})
