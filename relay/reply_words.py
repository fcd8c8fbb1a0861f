"""What a next hop's answer means in plain words, and what to do: for the pages of a message.

Shapes  words_of(code, enhanced, text) -> Words(cause, fix), or None for an answer that needs none (2xx). First what the
        text says beyond doubt, then the enhanced code, then the basic code; attempts without a code are ours: no
        connection, no TLS, no answer.
Errors  None: every 4xx and 5xx is told at least by its kind. The text is a stranger's and only looked at.
Source  RFC 3463 and the IANA registry of enhanced status codes (RFC 4954, 5248, 7372, 7504, 7505); RFC 5321 4.2.2.
        The door's own refusals are in relay.refusal_reasons.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:  # the stubs' name for what gettext_lazy gives
    from django.utils.functional import _StrPromise

TEXT_READ: Final = 512  # characters of an answer that are looked at


@dataclass(frozen=True, slots=True)
class Words:
    cause: "_StrPromise"
    fix: "_StrPromise"


def words_of(code: int | None, enhanced: str, text: str) -> Words | None:
    text = text[:TEXT_READ]
    if code is None:
        return _found(NO_ANSWER, text) or (NO_ANSWER_AT_ALL if text else None)
    if code < 400:
        return None
    later = code < 500
    by_text = _found(BY_TEXT_LATER if later else BY_TEXT, text)
    by_code = BY_ENHANCED.get(enhanced) or BY_ENHANCED.get(f"x{enhanced[1:]}")
    subject = BY_SUBJECT.get((later, enhanced.split(".")[1] if enhanced.count(".") == 2 else ""))
    return by_text or by_code or BY_CODE.get(code) or subject or (LATER if later else NEVER)


def _found(table: "tuple[tuple[str, Words], ...]", text: str) -> Words | None:
    return next((words for pattern, words in table if re.search(pattern, text, re.IGNORECASE)), None)


# --- What to do, where several causes have the same -------------------------------------------------------------------

_WAIT = _("Nothing to do: Gatepost tries again by itself, at growing intervals.")
_ADDRESS = _("Correct the address, or take it out of your list. Trying again changes nothing.")
_OTHER_WAY = _("Reach the recipient another way, or ask them to look into their mailbox.")
_OPERATOR = _("This is for the operator of this service: give them the reference of the message.")
_THEIR_SERVER = _("Nothing of yours is wrong. If it lasts, the recipient's administrator has to mend it.")
_SMALLER = _("Make the message smaller, or send a link instead of the file.")
_CONTENT = _(
    "Look at what the text of the answer names: links, attachments, the wording. Send to people who asked for it, and"
    " let them leave with one click."
)
_RECORDS = _(
    "Look at the records of the sending domain under Domains; each one that is missing or wrong is named there."
)

# --- By what the text says --------------------------------------------------------------------------------------------

_LISTED = Words(
    _("The receiving server refuses the address of this relay, because a blocklist names it."),
    _("This is for the operator, who sees the lists under Health. Your own mail and settings are not the cause."),
)
_GREYLISTED = Words(
    _("The receiving server puts off mail from senders that it does not know yet (greylisting)."),
    _("Nothing to do: the next attempt is mostly taken."),
)
_FULL = Words(
    _("The recipient's mailbox is full."), _("Ask the recipient to make room. Gatepost cannot deliver until then.")
)
_UNKNOWN = Words(_("There is no such mailbox at the recipient's domain."), _ADDRESS)
_RATE = Words(_("The receiving server limits how much it takes in a while, and this was more."), _WAIT)
_SPAM = Words(_("The receiving server took the message for unwanted mail."), _CONTENT)
_VIRUS = Words(
    _("The receiving server found something in the message that it takes for malicious."),
    _("Look at the attachments and links. Archives and programs are refused by many servers: send a link instead."),
)
_DMARC = Words(
    _("The message failed the DMARC policy of the domain in its From: neither SPF nor DKIM of that domain fits."),
    _RECORDS,
)
_SPF = Words(_("SPF of the sending domain does not name this relay as one of its servers."), _RECORDS)
_DKIM = Words(_("The DKIM signature of the message is missing, or does not fit its published key."), _RECORDS)
_PTR = Words(_("The receiving server wants the relay's address to have a name that leads back to it (PTR)."), _OPERATOR)
_RELAY = Words(
    _("The server does not take mail for this domain: it is not the one that is responsible for it."),
    _("If the domain has just moved, its MX records are out of date. If a smarthost said this, its login is missing."),
)
_LOOP = Words(
    _("The message went in a circle: two servers forward it to each other."),
    _("The recipient's administrator has to break the circle."),
)
_SIZE = Words(_("The message is larger than the receiving server takes."), _SMALLER)
_INACTIVE = Words(_("The mailbox exists, but is switched off or is not used any more."), _ADDRESS)
_LOGIN = Words(_("The next hop wants the relay to sign in, or did not accept its login."), _OPERATOR)

BY_TEXT: Final[tuple[tuple[str, Words], ...]] = (
    (
        r"spamhaus|spamcop|barracuda|sorbs|uceprotect|dnsbl|\brbl\b|block ?list|black ?list|listed (at|by|in|on)",
        _LISTED,
    ),
    (r"\bdmarc\b", _DMARC),
    (r"\bspf\b|sender policy framework", _SPF),
    (r"\bdkim\b", _DKIM),
    (r"(reverse|ptr|rdns).{0,40}(dns|record|lookup|hostname)|no ptr", _PTR),
    (r"(mailbox|quota|inbox|storage).{0,40}(full|exceeded|over)|over.?quota|out of storage", _FULL),
    (r"relay(ing)? (access )?(denied|not permitted|not allowed)|unable to relay|not permitted to relay", _RELAY),
    (r"(unknown|no such|invalid|non.?existent|unrouteable).{0,20}(user|recipient|mailbox|address|account)", _UNKNOWN),
    (r"(user|recipient|mailbox|account|address).{0,30}(unknown|not found|does ?n[o']t exist|not exist)", _UNKNOWN),
    (r"(mailbox|account|user).{0,25}(disabled|inactive|suspended|deactivated|locked)", _INACTIVE),
    (r"virus|malware|infected|trojan|phish", _VIRUS),
    (r"\bspam\b|unsolicited|junk mail|bulk mail|content (rejected|blocked|filter)", _SPAM),
    (r"(message|mail).{0,20}too (large|big)|exceeds.{0,30}size|size limit", _SIZE),
    (r"mail loop|loop detected|too many hops|hop count", _LOOP),
)
BY_TEXT_LATER: Final[tuple[tuple[str, Words], ...]] = (
    (r"gr[ae]y.?list", _GREYLISTED),
    (r"(try|come) (again|back) (later|in \d)|postgrey", _GREYLISTED),
    (r"rate.?limit|too (many|much|fast)|throttl|limit exceeded|unusual rate", _RATE),
    *BY_TEXT,
)

# --- By the enhanced code, of any class (x) or of one -----------------------------------------------------------------

_NO_MAIL_HERE = Words(_("The recipient's domain takes no mail at all: it says so with a null MX."), _ADDRESS)
_AUTH_ALL = Words(_("The message passed none of the checks of its sender: neither SPF nor DKIM."), _RECORDS)
BY_ENHANCED: Final[dict[str, Words]] = {
    "x.1.0": Words(_("Something is wrong with an address of the message."), _ADDRESS),
    "x.1.1": _UNKNOWN,
    "x.1.2": Words(_("The recipient's domain does not exist, or has no server for mail."), _ADDRESS),
    "x.1.3": Words(_("The recipient's address is not written as an address is."), _ADDRESS),
    "x.1.4": Words(_("The address could mean several mailboxes."), _ADDRESS),
    "x.1.6": Words(_("The mailbox has moved, and left no forwarding address."), _ADDRESS),
    "x.1.7": Words(
        _("The return path is not written as an address is."), _("Set a whole address of your domain as return path.")
    ),
    "x.1.8": Words(
        _("The domain of the return path does not exist, or takes no mail."),
        _("Use a return path in a domain that has an MX record; the one under Domains is made for this."),
    ),
    "x.1.9": Words(_("The server handed the message on to one that promises less."), _THEIR_SERVER),
    "x.1.10": _NO_MAIL_HERE,
    "x.2.0": Words(_("Something is wrong with the recipient's mailbox."), _OTHER_WAY),
    "x.2.1": _INACTIVE,
    "x.2.2": _FULL,
    "x.2.3": _SIZE,
    "x.2.4": Words(_("The address is a list that could not be expanded."), _THEIR_SERVER),
    "x.3.0": Words(_("Something is wrong with the receiving server."), _THEIR_SERVER),
    "x.3.1": Words(_("The receiving server's storage is full."), _THEIR_SERVER),
    "x.3.2": Words(_("The receiving server takes no mail at the moment."), _THEIR_SERVER),
    "x.3.3": Words(_("The receiving server cannot do what the message asks for."), _THEIR_SERVER),
    "x.3.4": _SIZE,
    "x.3.5": Words(_("The receiving server is not set up as it should be."), _THEIR_SERVER),
    "x.4.0": Words(_("Something is wrong with the network or the name service on the way."), _WAIT),
    "x.4.1": Words(_("The receiving server did not answer."), _WAIT),
    "x.4.2": Words(_("The connection to the receiving server was bad and broke off."), _WAIT),
    "x.4.3": Words(_("A name could not be looked up (DNS)."), _WAIT),
    "x.4.4": Words(_("No way to the recipient's domain was found."), _ADDRESS),
    "x.4.5": Words(_("The receiving server is too busy."), _WAIT),
    "x.4.6": _LOOP,
    "x.4.7": Words(_("The message could not be delivered within its time."), _("Send it again if it still matters.")),
    "x.5.0": Words(_("The two servers did not understand each other."), _OPERATOR),
    "x.5.1": Words(_("The receiving server did not expect this command."), _OPERATOR),
    "x.5.2": Words(_("The receiving server did not understand a command."), _OPERATOR),
    "x.5.3": Words(_("There were too many recipients at once; Gatepost sends to the others by themselves."), _WAIT),
    "x.5.4": Words(_("The receiving server did not accept a parameter."), _OPERATOR),
    "x.5.6": Words(_("The sign-in exchange was too long for the next hop."), _OPERATOR),
    "x.6.0": Words(_("Something in the content of the message is not as it must be."), _CONTENT),
    "x.6.1": Words(_("The receiving server does not take this kind of content."), _CONTENT),
    "x.6.2": Words(_("The content must be converted, which is not allowed."), _CONTENT),
    "x.6.3": Words(
        _("The content has octets that the receiving server cannot take."),
        _("Encode it as quoted-printable or base64. Mail libraries do so by themselves."),
    ),
    "x.6.6": Words(
        _("The content could not be fetched or converted."), _("Attach the content instead of referring to it.")
    ),
    "x.6.7": Words(
        _("The address has letters beyond ASCII, and the receiving server does not know them (SMTPUTF8)."),
        _("Use an address of the recipient in ASCII."),
    ),
    "x.6.9": Words(
        _("The receiving server cannot show letters beyond ASCII (SMTPUTF8)."),
        _("Use addresses and headers in ASCII for this recipient."),
    ),
    "x.7.0": Words(
        _("The receiving server refuses by a rule of its own, which only its words tell."),
        _("Read them: a link in them mostly leads to the rule. Otherwise ask who runs that server."),
    ),
    "x.7.1": Words(
        _("The receiving server does not allow this message: by its sender, its content, or the relay's address."),
        _("Read its words: a link in them mostly leads to the rule. Otherwise ask who runs that server."),
    ),
    "x.7.2": Words(
        _("Not everybody may send to this list, and the sender is not one of those who may."),
        _("Ask the list's owner to be let in."),
    ),
    "x.7.4": Words(_("The receiving server does not know the protection that was asked for."), _THEIR_SERVER),
    "x.7.5": Words(_("A cryptographic check failed."), _THEIR_SERVER),
    "x.7.8": _LOGIN,
    "x.7.9": _LOGIN,
    "x.7.10": Words(_("The next hop wants encryption (TLS) before it goes on."), _OPERATOR),
    "x.7.11": Words(_("The next hop wants encryption (TLS) before the relay signs in."), _OPERATOR),
    "x.7.13": _INACTIVE,
    "x.7.20": Words(_("No DKIM signature of the message is valid, and the server wants one."), _RECORDS),
    "x.7.21": Words(_("A DKIM signature is valid, but not one that the server accepts."), _RECORDS),
    "x.7.22": Words(_("A DKIM signature is valid, but not of the domain in the From."), _RECORDS),
    "x.7.23": _SPF,
    "x.7.24": Words(_("SPF of the sending domain could not be looked up, or is broken."), _RECORDS),
    "x.7.25": _PTR,
    "x.7.26": _AUTH_ALL,
    "x.7.27": Words(
        _("The return path's domain takes no mail: it says so with a null MX."),
        _("Use a return path in a domain that takes mail, so that bounces can come back."),
    ),
    "x.7.28": Words(
        _("The receiving server sees a flood of mail like this, and refuses it."),
        _("Send more slowly, and only to people who asked for it."),
    ),
    "x.7.29": Words(_("The chain of signatures of forwarders (ARC) is broken."), _THEIR_SERVER),
    "x.7.30": Words(
        _("The message asks to be carried over verified TLS only (REQUIRETLS), and the next server cannot promise it."),
        _("Send it without REQUIRETLS if that is acceptable. Otherwise there is no way to this recipient."),
    ),
}

# --- By the basic code, and by the enhanced code's subject ------------------------------------------------------------

BY_CODE: Final[dict[int, Words]] = {
    421: Words(_("The receiving server ended the session: it is busy, restarting, or takes no more just now."), _WAIT),
    450: Words(_("The mailbox cannot be reached just now: it is in use, or the server puts new senders off."), _WAIT),
    451: Words(_("The receiving server had a fault of its own, or puts off senders that it does not know yet."), _WAIT),
    452: Words(_("The receiving server has no room just now, or takes fewer recipients at once."), _WAIT),
    454: Words(_("The receiving server could not begin TLS, or could not check a login, just now."), _WAIT),
    500: Words(_("The receiving server did not understand a command."), _OPERATOR),
    501: Words(_("The receiving server did not accept how an address or a parameter is written."), _ADDRESS),
    502: Words(_("The receiving server does not know a command."), _OPERATOR),
    503: Words(_("The receiving server did not expect this command."), _OPERATOR),
    504: Words(_("The receiving server does not know a parameter."), _OPERATOR),
    521: Words(_("The host takes no mail at all."), _ADDRESS),
    523: _SIZE,
    530: _LOGIN,
    534: _LOGIN,
    535: _LOGIN,
    538: Words(_("The next hop wants encryption (TLS) before the relay signs in."), _OPERATOR),
    550: Words(_("The receiving server does not take mail for this recipient, or not from this sender."), _ADDRESS),
    551: Words(_("The recipient is not at this server."), _ADDRESS),
    552: Words(_("The message is too large, or the mailbox is full."), _SMALLER),
    553: Words(_("The address is not one that the receiving server allows."), _ADDRESS),
    554: Words(
        _("The receiving server refused the message for good."), _("Correct what the text of the answer names.")
    ),
    555: Words(_("The receiving server does not know a parameter."), _OPERATOR),
    556: _NO_MAIL_HERE,
}
LATER: Final = Words(_("A refusal for now: the same mail may be taken later."), _WAIT)
NEVER: Final = Words(
    _("A refusal for good: the same mail will be refused again."), _("Correct what the text of the answer names.")
)
BY_SUBJECT: Final[dict[tuple[bool, str], Words]] = {
    (True, "7"): Words(_("The receiving server puts the mail off by its rules."), _WAIT),
    (False, "7"): BY_ENHANCED["x.7.0"],
    (False, "1"): BY_ENHANCED["x.1.0"],
    (False, "2"): BY_ENHANCED["x.2.0"],
    (False, "6"): BY_ENHANCED["x.6.0"],
}

# --- Without an answer ------------------------------------------------------------------------------------------------

NO_ANSWER: Final[tuple[tuple[str, Words], ...]] = (
    (
        r"certificate|hostname mismatch|self.signed",
        Words(
            _("The next hop's certificate could not be verified, and its mail must not be handed to just anybody."),
            _("The administrator of that server has to mend its certificate; for a smarthost, the operator."),
        ),
    ),
    (
        r"mta-sts|dane|tlsa|requiretls",
        Words(
            _("The recipient's domain demands verified TLS, and no server of it could show that it is the right one."),
            _THEIR_SERVER,
        ),
    ),
    (
        r"starttls|\bTLS\b|\bSSL\b|handshake",
        Words(_("TLS could not be begun with the next hop, and nothing is sent in clear where it is needed."), _WAIT),
    ),
    (r"refused|unreachable|no route", Words(_("No server answers at the next hop's address."), _WAIT)),
    (
        r"timed? ?out|did not answer|no answer|silent",
        Words(_("The next hop did not answer in time."), _WAIT),
    ),
    (
        r"dns|resolv|name or service|nxdomain|servfail|lookup",
        Words(_("The next hop's name could not be looked up."), _WAIT),
    ),
    (
        r"reset|broke|closed|lost|ended",
        Words(_("The connection broke off before the next hop had answered."), _WAIT),
    ),
    (
        r"content is no longer",
        Words(_("The content was deleted before the message had left."), _("Send the message again.")),
    ),
    (
        r"worker stopped",
        Words(_("A process of this service ended in the middle of the attempt."), _WAIT),
    ),
    (r"internal error", Words(_("Something went wrong on our side during the attempt."), _OPERATOR)),
    (r"GATEPOST_|is not set|not configured", Words(_("The way out for this mail is not set up."), _OPERATOR)),
)  # fmt: skip
NO_ANSWER_AT_ALL: Final = Words(_("The attempt ended without an answer to the message."), _WAIT)
