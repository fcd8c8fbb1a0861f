"""Cases in words: what happened, what it may mean, what to do, and the facts.

Shapes  told(anomaly, who) -> Told. `who` names the SMTP users concerned; audit knows only their ids.
        The summary goes into mails, so it holds nothing that a stranger chose: no client name, no username. These are
        facts, for pages that escape them.
Errors  None: evidence that lacks a fact is told without it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.anomalies.models import Anomaly, Kind

Evidence = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    title: str
    summary: str
    advice: str
    facts: tuple[tuple[str, str], ...]


def told(anomaly: Anomaly, who: str) -> Told:
    values = {"who": who or _("your organization"), **_defaults(), **anomaly.evidence}
    values |= {name: _grouped(value) for name, value in values.items() if isinstance(value, int)}
    summary, advice = _WORDS[Kind(anomaly.kind)](values)
    return Told(str(Kind(anomaly.kind).label), summary, advice, tuple(_facts(anomaly)))


def _defaults() -> Evidence:
    names = "count usernames_count guesses recipients usual bound largest slept_days ips_count known_networks_count"
    texts = {"ip": "?", "network": "?", "list": "?", "domain": "?", "tls": "", "usual_tls": "", "name": ""}
    return {**dict.fromkeys(names.split(), 0), **texts, "records": []}


def _grouped(value: int) -> str:
    return number_format(value, use_l10n=True, force_grouping=True)


def _number(text: Any) -> int:
    """For the plural: what was grouped for people, as a number again."""
    digits = "".join(each for each in str(text) if each.isdigit())
    return int(digits or 0)


def _failures(values: Evidence) -> tuple[str, str]:
    summary = ngettext(
        "%(count)s failed login at %(who)s within a day, from %(ips_count)s addresses that never signed in before.",
        "%(count)s failed logins at %(who)s within a day, from %(ips_count)s addresses that never signed in before.",
        _number(values["count"]),
    )
    return summary % values, _(
        "Guessing cannot succeed against app passwords of full length, and it is slowed down and banned by itself."
        " If it is a device of yours, correct its settings and say so; a network list keeps everybody else out."
    )


def _usernames(values: Evidence) -> tuple[str, str]:
    summary = _("One source tried %(usernames_count)s usernames in %(count)s logins within a day.") % values
    return summary, _(
        "Somebody goes through a list of names. Nothing is lost while no login succeeded; a network list on the SMTP"
        " users keeps strangers out for good."
    )


def _network(values: Evidence) -> tuple[str, str]:
    summary = _("%(who)s signed in from %(ip)s, a network that it was never used from.") % values
    return summary, _(
        "If you moved a server, travel, or changed providers, say that it was you, and the network is known from then"
        " on. If not, somebody has the app password: revoke it."
    )


def _woke(values: Evidence) -> tuple[str, str]:
    summary = _("An app password of %(who)s was used again after %(slept_days)s days of silence, from %(ip)s.") % values
    return summary, _(
        "Old passwords lie in backups, old machines and code. If nothing of yours uses it any more, revoke it."
    )


def _guessed(values: Evidence) -> tuple[str, str]:
    summary = _("%(who)s was signed in to from %(ip)s after %(guesses)s failed logins.") % values
    return summary, _(
        "If you set up a client there and had to try, say that it was you. If not, revoke the app password now, and"
        " look through the messages that were sent since."
    )


def _volume(values: Evidence) -> tuple[str, str]:
    summary = _("%(who)s sent %(recipients)s emails in an hour in which it usually sends about %(usual)s.") % values
    return summary, _(
        "If it is a campaign or a busy day of yours, say so, and as much is usual from then on. If not, the"
        " application or its app password is in somebody else's hands: revoke it and look at the messages."
    )


def _client(values: Evidence) -> tuple[str, str]:
    summary = _("%(who)s is used by a client that was not seen before, beside the usual ones.") % values
    return summary, _(
        "If you added a server or program, say that it was you. If not, something in your own network uses the app"
        " password: find it, or revoke the password."
    )


def _tls(values: Evidence) -> tuple[str, str]:
    summary = _("%(who)s signed in with %(tls)s; until now it was never less than %(usual_tls)s.") % values
    return summary, _(
        "An older library or device, or somebody who reads along and holds the encryption down. If you know the"
        " client, say so; better, update it."
    )


def _canary(values: Evidence) -> tuple[str, str]:
    where = _(" from %(ip)s") % values if values["ip"] != "?" else ""
    summary = _("The canary %(secret)s, which works nowhere, was tried%(where)s.")
    return summary % {"secret": _secret(values), "where": where}, _(
        "Whoever tried it has read the place where you laid it. Treat every other secret in that place as known:"
        " revoke them and make new ones."
    )


def _leaked(values: Evidence) -> tuple[str, str]:
    return _("The live secret %(secret)s was seen where it does not belong.") % {"secret": _secret(values)}, _(
        "Revoke it, make a new one, and take the old one out of where it was seen."
    )


def _secret(values: Evidence) -> str:
    """By its own name, where it is known, and whose it is."""
    names = {"name": values["name"], "who": values["who"]}
    return _("“%(name)s” of %(who)s") % names if values["name"] else _("of %(who)s") % names


def _banned(values: Evidence) -> tuple[str, str]:
    return _("%(ip)s was banned after too many failed logins.") % values, _(
        "It ends by itself. If the address is yours, correct the client that fails, and lift the ban."
    )


def _listed(values: Evidence) -> tuple[str, str]:
    return _("The relay's address %(ip)s is on the blocklist %(list)s.") % values, _(
        "Receivers that ask this list refuse mail from the address. Find out why it is listed (the list's own page"
        " tells it), stop what caused it, and ask the list to take it off. Meanwhile the routes can be given another"
        " source address."
    )


def _unlisted(values: Evidence) -> tuple[str, str]:
    return _("The blocklist %(list)s does not name the relay's address %(ip)s any more.") % values, _(
        "Nothing to do. Mail that was put off because of it leaves by itself."
    )


def _domain(values: Evidence) -> tuple[str, str]:
    summary = _("The DNS of %(domain)s does not show what it showed before: %(count)s records are wrong or gone.")
    advice = _("Open the domain's page: it says which, and what belongs there.")
    if values.get("ends_at"):
        advice += " " + _(
            "The proof that the domain is yours is among them; without it mail is refused after three days."
        )
    return summary % {**values, "count": len(values["records"])}, advice


_WORDS: Final[dict[Kind, Callable[[Evidence], tuple[str, str]]]] = {
    Kind.FAILURES: _failures,
    Kind.USERNAMES: _usernames,
    Kind.NETWORK: _network,
    Kind.WOKE: _woke,
    Kind.GUESSED: _guessed,
    Kind.VOLUME: _volume,
    Kind.CLIENT: _client,
    Kind.TLS: _tls,
    Kind.CANARY: _canary,
    Kind.LEAKED: _leaked,
    Kind.BANNED: _banned,
    Kind.LISTED: _listed,
    Kind.UNLISTED: _unlisted,
    Kind.DOMAIN: _domain,
}


def _facts(anomaly: Anomaly) -> Iterator[tuple[str, str]]:
    evidence, labels = anomaly.evidence, _labels()
    if anomaly.kind in {Kind.CANARY, Kind.LEAKED}:
        labels["count"] = _("How often")
    if evidence.get("ips") == [evidence.get("ip")]:
        del labels["ips"]
    for name, label in labels.items():
        if name in evidence and (text := _text(evidence[name])):
            yield label, text


def _labels() -> dict[str, str]:
    return {
        "name": _("The secret's name"),
        "ip": _("Address"),
        "list": _("Blocklist"),
        "domain": _("Domain"),
        "records": _("Records"),
        "ends_at": _("Verified until (UTC)"),
        "said": _("What the list says"),
        "network": _("Its network"),
        "ips": _("Addresses"),
        "ips_count": _("How many addresses"),
        "guess_ips": _("Guesses came from"),
        "count": _("Failed logins"),
        "guesses": _("Failed logins before it"),
        "succeeded_at": _("Succeeded at (UTC)"),
        "usernames": _("Usernames tried"),
        "usernames_count": _("How many usernames"),
        "client": _("Client name"),
        "known_clients": _("Usual clients"),
        "tls": _("Encryption"),
        "usual_tls": _("Usual encryption"),
        "known_networks": _("Usual networks"),
        "known_networks_count": _("How many usual networks"),
        "slept_days": _("Days of silence"),
        "last_used_at": _("Used before at (UTC)"),
        "recipients": _("Emails in the hour"),
        "hour": _("The hour (UTC)"),
        "usual": _("Usual in that hour"),
        "bound": _("Taken for usual up to"),
        "largest": _("Most in an hour before"),
        "largest_at": _("When that was (UTC)"),
        "where": _("Where it was seen"),
        "reference": _("Reference"),
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    if isinstance(value, str):
        return _moment(value) or value
    return _grouped(value) if isinstance(value, int) else str(value)


def _moment(text: str) -> str:
    """Times are stored as ISO 8601."""
    try:
        return date_format(datetime.fromisoformat(text), "Y-m-d H:i") if "T" in text else ""
    except ValueError:
        return ""
