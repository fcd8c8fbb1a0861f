"""Every reason in plain words for the customer: what happened, and what to do about it.

Shapes  explain(reason) -> Explanation(cause, fix); both are lazy translations, one to three sentences, no blame.
Errors  ValueError for a reason that is none.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.utils.translation import gettext_lazy as _

from audit.models import Reason

if TYPE_CHECKING:  # the stubs' name for what gettext_lazy gives
    from django.utils.functional import _StrPromise


@dataclass(frozen=True, slots=True)
class Explanation:
    cause: "_StrPromise"
    fix: "_StrPromise"


def explain(reason: Reason | str) -> Explanation:
    return EXPLANATIONS[Reason(reason)]


EXPLANATIONS: Final[dict[Reason, Explanation]] = {
    Reason.OK: Explanation(
        _("The username and the app password are right, and the address is allowed."),
        _("Nothing to do. If you do not know this client, revoke the app password and make a new one."),
    ),
    Reason.UNKNOWN_USER: Explanation(
        _("No SMTP user has the username that the client sent."),
        _("Copy the username from the SMTP user's page: it is a name, one dot, and your organization's short name."),
    ),
    Reason.WRONG_PASSWORD: Explanation(
        _("The SMTP user exists, but none of its app passwords is the one that the client sent."),
        _(
            "Paste the app password again, whole: it starts with gp_ and has no spaces. It is shown only once, so if"
            " it is lost, make a new one on the SMTP user's page and revoke the old one."
        ),
    ),
    Reason.REVOKED: Explanation(
        _("The client sent an app password that was right once and has been revoked."),
        _("Make a new app password on the SMTP user's page and put it where this client keeps its settings."),
    ),
    Reason.EXPIRED: Explanation(
        _("The client sent the right app password after its expiry date."),
        _("Make a new app password on the SMTP user's page, with a later expiry date or none, for the client."),
    ),
    Reason.ASLEEP: Explanation(
        _("The client sent the right app password, but it sleeps: nothing had signed in with it for a long time."),
        _(
            "If the client is yours, a member wakes the app password on its page, and the client works again as it is."
            " If it is not yours, revoke the app password: somebody found an old one."
        ),
    ),
    Reason.CANARY: Explanation(
        _("The client sent a canary, a password that works nowhere. Nobody has a reason to use it, except to try it."),
        _(
            "Look where you put this canary: whoever tried it has read that place. Revoke and replace every real app"
            " password that was kept there."
        ),
    ),
    Reason.USER_DISABLED: Explanation(
        _("The SMTP user is disabled, so none of its app passwords works."),
        _("Enable the SMTP user on its page, or give the client another SMTP user."),
    ),
    Reason.NETWORK: Explanation(
        _("The app password is right, but the client's address is outside the allowed networks."),
        _(
            "If the client is yours, add its address to the networks of the SMTP user, its app password, or the"
            " organization: every list that is not empty must allow it. If it is not yours, revoke the app password."
        ),
    ),
    Reason.ORGANIZATION_SUSPENDED: Explanation(
        _("Sending is suspended for the whole organization."),
        _("The reason is on the Overview page. Contact support to have sending resumed."),
    ),
    Reason.PANEL_PASSWORD: Explanation(
        _("The client sent a person's e-mail address. People sign in on the panel; SMTP has users of its own."),
        _(
            "Make an SMTP user and an app password, and put those into the client. If a panel password was in its"
            " settings, change that password."
        ),
    ),
    Reason.IDENTITY: Explanation(
        _("The client asked to act as another identity (authzid) than the one that it signed in with."),
        _("Leave the authorization identity in the client's settings empty, or set it to the username."),
    ),
    Reason.CLEAR_TEXT: Explanation(
        _("The client tried to sign in before the connection was encrypted, and was stopped."),
        _(
            "Set the client to STARTTLS (port 587) or to TLS (port 465). If it had sent the app password already,"
            " others may have read it on the way: revoke it and make a new one."
        ),
    ),
    Reason.MALFORMED: Explanation(
        _("The login did not have the form that its mechanism asks for, so it could not be read."),
        _("Set the client to PLAIN or LOGIN over TLS. If it is so already, update the client's mail library."),
    ),
    Reason.ABORTED: Explanation(
        _("The client broke the login off, or closed the connection, before it had sent everything."),
        _("Look into the client's own log: mostly a password is missing there, or its time limit is too short."),
    ),
    Reason.THROTTLED: Explanation(
        _("There were too many failed logins from this address, so this one was put off without being checked."),
        _("Correct the settings of the client that fails, and wait for the time named in the reply."),
    ),
    Reason.BANNED: Explanation(
        _("The address was banned for a while because it had guessed at passwords; the connection was ended at once."),
        _(
            "If the address is yours, lift the ban under Bans: that is possible once one of your SMTP users has signed"
            " in from it. Find the device that fails there; the ban's evidence says what it tried."
        ),
    ),
    Reason.UNAVAILABLE: Explanation(
        _("The login could not be checked because our database was out of reach. Your settings are not the cause."),
        _("Nothing to do: mail servers, and libraries with a queue, try again. If it lasts, contact support."),
    ),
    Reason.MECHANISM_OFF: Explanation(
        _(
            "The client signed in with CRAM-MD5, which is switched off for this SMTP user, or on but without an app"
            " password made since then."
        ),
        _(
            "Set the client to SCRAM-SHA-256, or to PLAIN or LOGIN over TLS. If it knows CRAM-MD5 alone, switch that"
            " on on the SMTP user's page, then make a new app password for it."
        ),
    ),
    Reason.BAD_TOKEN: Explanation(
        _(
            "The client sent an access token that is not valid here: its signature, issuer, audience or scope is wrong,"
            " or it was revoked."
        ),
        _(
            "Let the client fetch a new token with the scope smtp.send. With an issuer of your own, compare its issuer,"
            " audience and claim with those set in the panel."
        ),
    ),
    Reason.TOKEN_EXPIRED: Explanation(
        _("The client sent an access token after its end."),
        _("Let the client fetch a new token before the old one ends: it is told how long a token lives."),
    ),
    Reason.TOKEN_OF_ANOTHER: Explanation(
        _("The access token is valid, but for another SMTP user than the client named."),
        _("Set the client's username to the SMTP user for which its token is issued, or leave it empty."),
    ),
    Reason.MECHANISM_REFUSED: Explanation(
        _("The app password is right, but the organization has switched off the mechanism that the client used."),
        _(
            "Set the client to another mechanism, such as SCRAM-SHA-256 or PLAIN. The page Old sign-in methods says"
            " which ones are off, and can switch them on again."
        ),
    ),
    Reason.TLS_REFUSED: Explanation(
        _("The app password is right, but the connection used an older TLS version than the organization allows."),
        _(
            "Update the client, or the library with which it makes TLS connections. The page Old sign-in methods can"
            " allow the older version again."
        ),
    ),
}
