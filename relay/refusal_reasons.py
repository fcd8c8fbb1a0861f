"""Every refusal of the SMTP door in plain words for the customer: what happened, and what to do about it.

Shapes  explain(reply) -> Explanation(cause, fix, place, ours). `place` is the page that helps; ours is False when the
        words are none of the door's, so that only the code speaks: other servers' replies are pasted too.
Errors  None: every 4xx and 5xx is explained at least by its kind.
Source  relay/smtp/replies.py, relay/senders.py; RFC 3463 for the codes of other servers. Sign-ins: audit/reasons.py.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Final

from django.utils.translation import gettext_lazy as _

from relay.pasted import PastedReply
from relay.smtp import replies
from relay.smtp.replies import Reply

if TYPE_CHECKING:  # the stubs' name for what gettext_lazy gives
    from django.utils.functional import _StrPromise

_FIELD = re.compile(r"\{\w+\}")


class Place(StrEnum):
    """A page of the panel on which the fix is made."""

    SENDERS = "senders"
    DOMAINS = "domains"
    SMTP_USER = "smtp_user"
    PLAN = "plan"
    AUTH_LOG = "auth_log"
    MESSAGES = "messages"
    BANS = "bans"
    SUPPRESSIONS = "suppressions"


@dataclass(frozen=True, slots=True)
class Explanation:
    cause: "_StrPromise"
    fix: "_StrPromise"
    place: Place | None = None
    ours: bool = True


def explain(told: PastedReply, *, from_door: bool = False) -> Explanation:
    """By the words, by the code where it means one thing alone, or by what such a code means in general.

    from_door: it has a reference or is our own record, so that words that are all filled in are known by their code.
    """
    same_code = [reply for reply in EXPLANATIONS if _may_be(reply, told)]
    spoken = [reply for reply in same_code if _own_words(reply) and _pattern(reply.text).match(told.text)]
    if spoken:
        return EXPLANATIONS[max(spoken, key=lambda reply: len(_own_words(reply)))]
    if told.code == replies.NOT_YOUR_SENDER.code:
        for words, explanation in SENDER_EXPLANATIONS:
            if re.search(words, told.text):
                return explanation
    all_filled_in = [reply for reply in same_code if not _own_words(reply)]
    if from_door and all_filled_in:
        return EXPLANATIONS[all_filled_in[0]]
    if len(same_code) == 1 and told.enhanced:
        return replace(EXPLANATIONS[same_code[0]], ours=not told.text)
    return _in_general(told)


def _may_be(reply: Reply, told: PastedReply) -> bool:
    return reply.code == told.code and told.enhanced in {reply.enhanced, ""}


def _own_words(reply: Reply) -> str:
    return _FIELD.sub("", reply.text).strip()


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """The template's words, with anything in its fields."""
    return re.compile(r".+?".join(re.escape(part) for part in _FIELD.split(text)), re.IGNORECASE)


def _in_general(told: PastedReply) -> Explanation:
    if told.code < 400:
        return Explanation(
            _("This is no refusal: the server agreed to what it was asked."),
            _("If the mail did not arrive, look for it under Messages."),
            Place.MESSAGES,
            ours=False,
        )
    by_subject = GENERAL.get((told.code // 100, told.enhanced[2:3]))
    return by_subject or GENERAL[(told.code // 100, "")]


# --- The words ------------------------------------------------------------------------------------------------------

_ORDER = _(
    "The program asks in the wrong order. Mostly an earlier answer was a refusal that it went past: look at that one."
)
_TRY_AGAIN = _("Nothing to do: mail servers, and libraries with a queue, try again. If it lasts, contact support.")
_UPDATE = _("Update the program's mail library, or tell its maker: the text of the answer names what is wrong.")
_CORRECT_ADDRESS = _("Correct the address, or take it out of the list. Trying again changes nothing.")

EXPLANATIONS: Final[dict[Reply, Explanation]] = {
    # The session
    replies.UNKNOWN_COMMAND: Explanation(
        _("The program sent something that is no SMTP command."),
        _("Mostly it is no mail program, or it sends the text of a mail where a command is due. Look at its own log."),
    ),
    replies.EXPN: Explanation(_("The program asked for the members of a list, which is not offered."), _UPDATE),
    replies.BAD_LINE: Explanation(
        _("A command ended with a bare LF or CR, where SMTP asks for CRLF."), _("Set the program to CRLF line ends.")
    ),
    replies.TOO_LONG: Explanation(_("A command was longer than SMTP allows."), _UPDATE),
    replies.SYNTAX: Explanation(_("A command had a wrong argument, or one too many or too few."), _UPDATE),
    replies.BAD_HELO: Explanation(
        _("The program gave a name for itself that is no host name."),
        _("Set the name it says in EHLO to its host's name, or to its address in brackets, like [192.0.2.1]."),
    ),
    replies.SEND_EHLO: Explanation(
        _("The program did not introduce itself with EHLO, or forgot to do so again after STARTTLS."), _UPDATE
    ),
    replies.TOO_MANY_ERRORS: Explanation(
        _("There were twenty broken commands in one connection, so it was closed."),
        _("Look into the program's own log at what it sends, and at the first refusals before this one."),
    ),
    replies.IDLE: Explanation(
        _("The connection was closed because nothing came over it for too long, or the data came too slowly."),
        _("Connect again. What had no 250 was not accepted; a good mail library does this by itself."),
    ),
    replies.TOO_MANY_CONNECTIONS: Explanation(
        _("There were too many connections from your address, or to the server, at that moment."),
        _("Keep a few connections and send several messages over each. Meanwhile the mail may be tried again."),
    ),
    replies.BANNED: Explanation(
        _(
            "Too many logins had failed from this address, or its neighbourhood, and it went on although it was told to"
            " wait. It is banned until the time in the answer is over."
        ),
        _(
            "Find the device or program that fails there and correct its password. If one of your SMTP users signs in"
            " from this address, lift the ban under Bans."
        ),
        Place.BANS,
    ),
    replies.SHUTTING_DOWN: Explanation(
        _("The server was restarting. A message without its 250 was not accepted."), _TRY_AGAIN
    ),
    replies.UNEXPECTED: Explanation(
        _("Something went wrong on our side. Your settings are not the cause."), _TRY_AGAIN
    ),
    replies.UNAVAILABLE: Explanation(
        _("The message could not be stored because our database was out of reach. It was not accepted."), _TRY_AGAIN
    ),
    # TLS
    replies.STARTTLS_FIRST: Explanation(
        _("The program tried to go on without encryption, and port 587 asks for STARTTLS first."),
        _("Set its encryption to STARTTLS, or to TLS on port 465."),
        Place.SMTP_USER,
    ),
    replies.TLS_ALREADY: Explanation(
        _("The program asked for STARTTLS on a connection that was encrypted already."),
        _("Choose one: STARTTLS on port 587, or TLS on port 465 without STARTTLS."),
        Place.SMTP_USER,
    ),
    replies.TLS_UNAVAILABLE: Explanation(_("The server could not encrypt the connection at that moment."), _TRY_AGAIN),
    # AUTH
    replies.AUTH_REQUIRED: Explanation(
        _("The program tried to send without signing in."),
        _("Switch authentication on, with the username of an SMTP user and one of its app passwords."),
        Place.SMTP_USER,
    ),
    replies.AUTH_NEEDS_TLS: Explanation(
        _("The program tried to sign in before the connection was encrypted."),
        _(
            "Switch on STARTTLS (port 587) or TLS (port 465). If it had sent the app password already, others may have"
            " read it on the way: revoke it and make a new one."
        ),
        Place.SMTP_USER,
    ),
    replies.AUTH_FAILED: Explanation(
        _(
            "The sign-in was refused. The answer is the same for every cause, so that nobody can guess; the true one is"
            " in the auth log."
        ),
        _(
            "Find the attempt there by its reference or its time. If it is not there, the username that the program"
            " sent is none of your organization's: copy it from the SMTP user's page."
        ),
        Place.AUTH_LOG,
    ),
    replies.AUTH_THROTTLED: Explanation(
        _("Too many different passwords or names had failed from this address, so this login was not judged at all."),
        _(
            "Wait for the time in the answer, and correct what fails there: the auth log names it. A client whose"
            " password worked from the same address lately is never held back."
        ),
        Place.AUTH_LOG,
    ),
    replies.AUTH_UNAVAILABLE: Explanation(
        _("The sign-in could not be checked at that moment. It says nothing about the app password."), _TRY_AGAIN
    ),
    replies.AUTH_MECHANISM: Explanation(
        _("The program tried a way to sign in that is not offered."),
        _("Set it to SCRAM-SHA-256, PLAIN or LOGIN, over TLS."),
    ),
    replies.AUTH_CHANNEL_BINDING: Explanation(
        _("The program asked to tie its sign-in to the encryption (channel binding), which is not offered."),
        _("Set it to SCRAM-SHA-256 without -PLUS, or update its mail library."),
    ),
    replies.AUTH_INITIAL: Explanation(
        _("The program spoke first, in a way to sign in (CRAM-MD5) where the server does."), _UPDATE
    ),
    replies.AUTH_CANCELLED: Explanation(
        _("The program broke its own sign-in off."), _("Mostly no password is set in it: look into its settings.")
    ),
    replies.AUTH_NOT_BASE64: Explanation(_("The sign-in was not in the form that its mechanism asks for."), _UPDATE),
    replies.AUTH_TOO_LONG: Explanation(_("The sign-in was longer than any username and password are."), _UPDATE),
    replies.AUTH_AGAIN: Explanation(_("The program signed in twice over one connection."), _UPDATE),
    replies.AUTH_IN_MAIL: Explanation(_("The program signed in when it had begun a mail already."), _UPDATE),
    replies.AUTH_TOO_MANY: Explanation(
        _("Three sign-ins in a row failed over one connection, so it was closed."),
        _("The auth log has each with its true reason. Correct the program's settings before it tries again."),
        Place.AUTH_LOG,
    ),
    # MAIL and RCPT
    replies.BAD_SENDER: Explanation(
        _("The return path (MAIL FROM) is no valid address."), _("Set a whole address, like app@your-domain.example.")
    ),
    replies.BAD_RECIPIENT: Explanation(_("The recipient is no valid address."), _CORRECT_ADDRESS),
    replies.BAD_PARAMETER: Explanation(
        _("An address stood without its < and >, or a parameter of MAIL or RCPT had a value that it cannot have."),
        _UPDATE,
    ),
    replies.UNKNOWN_PARAMETER: Explanation(_("The program used an extension that was not offered."), _UPDATE),
    replies.NEEDS_SMTPUTF8: Explanation(
        _("The address has letters beyond ASCII, and the program did not say that it can handle them (SMTPUTF8)."),
        _("Use a program or library that knows SMTPUTF8, or an address in ASCII."),
    ),
    replies.NULL_SENDER: Explanation(
        _("The mail had an empty return path, which only some SMTP users may use."),
        _("Set a return path, or let this SMTP user send without one."),
        Place.SMTP_USER,
    ),
    replies.SUPPRESSED: Explanation(
        _("The recipient is on your organization's list of suppressed addresses; the answer says since when and why."),
        _("If the address is right and takes mail again, remove it from the list. Otherwise take it out of yours."),
        Place.SUPPRESSIONS,
    ),
    replies.NOT_OURS: Explanation(
        _("The port for reports on bounced mail was asked to take something else: it takes nothing but those."),
        _("Send mail by the port for SMTP users, 587 or 465, and sign in there."),
    ),
    replies.NESTED_MAIL: Explanation(_("A second mail was begun before the first was finished."), _ORDER),
    replies.MAIL_FIRST: Explanation(
        _("A recipient or the text came, but no mail had been begun: mostly because its sender was refused."), _ORDER
    ),
    replies.RCPT_FIRST: Explanation(_("The text came, but no recipient had been accepted."), _ORDER),
    replies.TOO_MANY_RECIPIENTS: Explanation(
        _("The message has more recipients than one message may have. Those accepted before this answer stay."),
        _("Send the others in another message; mail servers do so by themselves."),
    ),
    replies.NO_ROOM_RECIPIENT: Explanation(
        _("The hourly limit had room for some of the recipients only. Those accepted before this answer stay."),
        _("Send the others later; mail servers do so by themselves. A larger plan has more room."),
        Place.PLAN,
    ),
    replies.OVER_LIMIT: Explanation(
        _("The hourly limit was reached. Nothing was accepted and nothing counted; the mail is not lost."),
        _(
            "Try again after the seconds that the answer names; mail servers do so by themselves. If it happens often,"
            " choose a larger plan, or let the SMTP user hold what is too much."
        ),
        Place.PLAN,
    ),
    replies.PAYMENT_DUE: Explanation(
        _(
            "An invoice is overdue, so the operator's rules hold all sending: what was accepted before waits, and new"
            " mail is put off. Nothing is lost; mail servers try again by themselves."
        ),
        _("Pay the invoice that the page of the plan names. Sending goes on within a minute of the payment."),
        Place.PLAN,
    ),
    replies.NEVER_FITS: Explanation(
        _("The message has more recipients than the limit allows in a whole hour, so waiting does not help."),
        _("Send it to fewer recipients at once, or choose a larger plan."),
        Place.PLAN,
    ),
    replies.ENDED: Explanation(
        _(
            "While the program was connected its app password was revoked, its SMTP user disabled, or the organization"
            " suspended."
        ),
        _("Look at the SMTP user's page. If the password was replaced, give the program the new one."),
        Place.SMTP_USER,
    ),
    replies.TOKEN_ENDED: Explanation(
        _("The access token with which the program had signed in came to its end."),
        _("Nothing to do if the program fetches a new token and connects again by itself; if not, its library must."),
    ),
    replies.NO_MEMORY: Explanation(_("Too much mail was on its way through the server at that moment."), _TRY_AGAIN),
    replies.NO_DISK: Explanation(_("The server's disk was nearly full. The operator is told of it."), _TRY_AGAIN),
    replies.TOO_BIG: Explanation(
        _("The message is larger than the server takes. Attachments grow by a third on the way."),
        _("Send a link instead of the file, or make it smaller. Trying again changes nothing."),
    ),
    # The message
    replies.BARE_LINE_END: Explanation(
        _(
            "The message holds a line end that is not CRLF, or a NUL. Other servers could read it as two messages"
            " (SMTP smuggling), so it is refused."
        ),
        _("End all lines with CRLF and encode attachments in base64. Mail libraries do both by themselves."),
    ),
    replies.LONG_LINE: Explanation(
        _("A line of the message is longer than the server takes."),
        _("Encode the text as quoted-printable or base64. Mail libraries do so by themselves."),
    ),
    replies.MAIL_LOOP: Explanation(
        _("The message went through some fifty servers: two of them forward to each other."),
        _("Find the circle in its Received headers, and break it."),
    ),
    replies.ONE_FROM: Explanation(
        _("The message has no From header, several, or one that is not exactly one address."),
        _("Set exactly one From with exactly one address."),
    ),
    replies.BAD_HEADER: Explanation(
        _("The header of the message is not as it must be; the answer says what is wrong."), _UPDATE
    ),
    replies.DATA_AFTER_BDAT: Explanation(_("DATA came after BDAT had begun the message."), _ORDER),
    replies.BDAT_FAILED: Explanation(_("A part of a message came, but no mail had been begun."), _ORDER),
}

_NOT_A_SENDER = Explanation(
    _("The SMTP user may not send as this address. Both the return path and the From header are checked."),
    _("Add the address, or its whole domain as @domain, to the senders of the SMTP user."),
    Place.SENDERS,
)
# The words of relay.senders.refusal(), which stand for NOT_YOUR_SENDER's {why}.
SENDER_EXPLANATIONS: Final[tuple[tuple[str, Explanation], ...]] = (
    (r"may not send as", _NOT_A_SENDER),
    (
        r"The domain \S+ is not added",
        Explanation(
            _("The SMTP user may send as this address, but its domain is not among your organization's."),
            _("Add the domain under Domains, and have it verified."),
            Place.DOMAINS,
        ),
    ),
    (
        r"The domain \S+ is not verified",
        Explanation(
            _("The domain of this address is added to your organization, but not verified yet."),
            _("Its page under Domains says what to do. Until then only the sandbox takes mail from it."),
            Place.DOMAINS,
        ),
    ),
    (
        r"The domain \S+ is verified by another",
        Explanation(
            _("The domain of this address is verified by another organization, so nobody else sends as it."),
            _("If it is yours, contact support. Otherwise send as an address of a domain of your own."),
            Place.DOMAINS,
        ),
    ),
    (
        r"is not an address that can be verified",
        Explanation(
            _("The sender has no domain that could be yours: it is no whole address, or an address in brackets."),
            _("Send as an address of a domain that your organization has added."),
            Place.DOMAINS,
        ),
    ),
)
EXPLANATIONS[replies.NOT_YOUR_SENDER] = Explanation(
    _("The address that the mail was to be sent as is not allowed for this SMTP user; the answer says why."),
    _("Look at the senders of the SMTP user, and at your organization's domains."),
    Place.SENDERS,
)

# First digit, and the subject of the enhanced code (RFC 3463 3), for words that are none of the door's.
GENERAL: Final[dict[tuple[int, str], Explanation]] = {
    (4, ""): Explanation(
        _("A refusal for now: the same mail may be taken later."),
        _("Wait and try again; mail servers, and libraries with a queue, do so by themselves."),
        ours=False,
    ),
    (4, "2"): Explanation(
        _("The mailbox cannot take the mail for now: mostly it is full."),
        _("Wait. If it lasts, the recipient must be told another way."),
        Place.MESSAGES,
        ours=False,
    ),
    (4, "7"): Explanation(
        _("A server puts the mail off by its rules: a limit, or greylisting of senders that it does not know yet."),
        _("Wait and try again; mail servers, and libraries with a queue, do so by themselves."),
        ours=False,
    ),
    (5, ""): Explanation(
        _("A refusal for good: the same mail will be refused again."),
        _("Correct what the text of the answer names."),
        ours=False,
    ),
    (5, "1"): Explanation(
        _("An address does not exist or is not a valid one: mostly the recipient's."),
        _CORRECT_ADDRESS,
        Place.MESSAGES,
        ours=False,
    ),
    (5, "2"): Explanation(
        _("The mailbox exists, but takes no mail, or not this one: it is full, closed, or the mail too large."),
        _("The recipient must be told another way."),
        Place.MESSAGES,
        ours=False,
    ),
    (5, "3"): Explanation(
        _("A server cannot take this mail: mostly it is too large."),
        _("Make it smaller, or send a link instead of the file."),
        ours=False,
    ),
    (5, "6"): Explanation(
        _("Something in the content or its encoding is not taken."),
        _("Build the mail with a mail library, and look at what the text of the answer names."),
        ours=False,
    ),
    (5, "7"): Explanation(
        _("A server refuses by its rules: what you may send, who you are, or how it rates the mail."),
        _("Read its words. A link in them mostly leads to the rule; otherwise ask who runs that server."),
        ours=False,
    ),
}
