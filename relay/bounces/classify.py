"""Whose trouble a refusal is, and whether trying again could help.

Shapes  classify(code, enhanced, text) -> Verdict(bounce_class, is_hard, is_certain).
        recipient: the address or its mailbox. policy: this message or its authentication. reputation: the addresses or
        domain that send. infrastructure: names, routes, connections, servers.
        First what the next hop's words say beyond doubt, in the order of PHRASES; then enhanced code, then code.
        is_hard: the same mail to the same address will not arrive. is_certain: one such answer proves that the address
        takes no mail; without it two within SUSPICION_DAYS are needed before an address is suppressed.
Errors  None: what nobody knows is policy for a 5xx and infrastructure for all else, which suppresses nobody.
Source  RFC 3463, 5248, 7372, 7504, 7505; the providers' published lists of errors. tests/relay/bounces/phrases.py has
        what they really say.
"""

import re
from dataclasses import dataclass
from typing import Final

from relay.models.bounces import BounceClass

RECIPIENT, POLICY = BounceClass.RECIPIENT, BounceClass.POLICY
REPUTATION, INFRASTRUCTURE = BounceClass.REPUTATION, BounceClass.INFRASTRUCTURE

TEXT_READ: Final = 1000  # characters of an answer that are looked at
SUSPICION_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Verdict:
    bounce_class: BounceClass
    is_hard: bool = True
    is_certain: bool = False

    @property
    def suppresses(self) -> bool:
        """It speaks against the address, and for good; whether one answer is enough says is_certain."""
        return self.bounce_class == RECIPIENT and self.is_hard


SOFT_RECIPIENT: Final = Verdict(RECIPIENT, is_hard=False)
GONE: Final = Verdict(RECIPIENT, is_certain=True)
DOUBTFUL: Final = Verdict(RECIPIENT)

# Earlier lines win: a blocklist's words stand in answers with every code, and "rejected" says nothing by itself.
PHRASES: Final[tuple[tuple[Verdict, tuple[str, ...]], ...]] = (
    (
        Verdict(REPUTATION),
        (
            r"spamhaus|spamcop|sorbs\b|barracuda(central|networks| reputation)|\b(dns)?[rb]bl\b|dnsbl|uceprotect|surbl",
            r"black ?list|block ?list|blocklisted|listed (at|by|in|on) ",
            r"(ip|mta'?s?|sender|host|network|domain) (address )?(has |with |of )?(a )?(poor|bad|low|very low)",
            r"reputation|banned send(ing ip|er)|bad outbound sender|ipcheck\.proofpoint|postmaster\.(t-online|1und1)",
            r"tosa@rx\.t-online|\[(TS|TSS)\d\d\]|\[BL\d\d\]|\bSC-00\d\b|\bBL0000\d\d\b|_is_blocked|block for spam",
            r"unusual rate|unsolicited mail|unexpected volume|user complaints|traffic not accepted from this ip",
            r"(client|sending|connecting|remote) (host|ip|server|mta)\b.{0,60}(blocked|denied|rejected|refused)",
            r"(blocked|denied|refused|rejected).{0,40}(your|this|sending) (ip|host|server|network)",
            r"reverse dns|\bptr\b|rdns|part of their network is on our block",
            r"too many (connections|messages|recipients) from|rate ?limit|sending limit|throttl",
        ),
    ),
    (
        Verdict(POLICY),
        (
            r"\bdmarc\b|\bspf\b|\bdkim\b|unauthenticated|authentication (level|required|checks?|results?)|anti-?spoof",
            r"not authorized to send|sender (id|verif)|sender address rejected|invalid sender|MI:SPF|DT:SPM|DT:SPF",
            r"(looks|appears|classified|detected|identified|considered|suspicion|suspected).{0,25}(spam|phish|junk)",
            r"spam message|high spam score|spam (content|detected|score)|content (denied|rejected|filter)|mail content",
            r"virus|malware|malicious|attachment|executable|banned (file|extension)|unsafe (link|url)|url.{0,20}listed",
            r"(message|mail|size).{0,30}(too (large|big)|exceeds?|limit exceeded)|max(imum)? (message )?size",
            r"grey ?list|try again in \d+ sec|must issue a starttls|tls (is )?required|encryption (is )?required",
            r"(local|security|site|administrative|usage|policy) (policy|policies|reasons?|restrictions?|lockout)",
            r"(due to|under|violat\w+|by|for) .{0,30}polic(y|ies)|delivery not authorized|message refused",
            r"only (accepts?|allowed).{0,30}(members|authenticated)|restricted|NotAuthorized|RestrictDomains",
        ),
    ),
    (
        SOFT_RECIPIENT,
        (
            r"(over|exceed\w*|out of|insufficient).{0,25}(quota|storage)|quota ?(exceeded|full)|QuotaExceeded",
            r"(mail)?box.{0,20}(is )?full|mailbox (size )?limit|receiving mail (too quickly|at a rate)|inbox is out of",
            r"too much mail|disk quota|mailbox is too large|unverified address|address verif",
        ),
    ),
    (
        DOUBTFUL,  # a name that DNS does not know today may be known tomorrow
        (
            r"(domain|host) (name )?(not found|unknown|does not exist)|no such (domain|host)|host unknown",
            r"any (host|machine) named|unknown (domain|host)|domain of recipient",
        ),
    ),
    (
        GONE,
        (
            r"(user|recipient|account|mailbox|address).{0,40}(unknown|not (be )?found|not exist|no longer)",
            r"(unknown|no such|non-?existent|invalid|illegal) (local |virtual )?(user|recipient|mailbox|account)",
            r"(user|account|mailbox|recipient|address|person).{0,40}(does ?n[o']t|do(es)? not|did not) (have|exist)",
            r"doesn't have a \w+\.?\w* account|no mailbox here|not our customer|no such (person|address|user)",
            r"RecipientNotFound|RecipNotFound|invalid mailbox|destinataire invalide|S2017062302|unrouteable address",
            r"(could ?n[o']t|unable to) be found|null mx|accepts? no mail|does not accept (any )?(e-?)?mail",
            r"this (e-?mail )?address is no longer|has (left|moved)|deactivated permanently|user (has )?moved",
        ),
    ),
    (
        DOUBTFUL,
        (
            r"(account|mailbox|user|address|recipient).{0,40}(disabled|inactiv|suspended|deactivat|expired|blocked)",
            r"AS\(201806281\)|#5\.1\.0 address rejected|recipient (address )?rejected|mailbox unavailable",
            r"user not local|not a valid (mailbox|address|recipient)|bad (destination|recipient)",
        ),
    ),
    (
        Verdict(INFRASTRUCTURE),
        (
            r"relay(ing)? (access )?(denied|not permitted|prohibited)|unable to relay|not permitted to relay",
            r"loop|too many hops|hop count|mail for .{0,40} loops back|timed? ?out|timeout|retry time(out)? exceeded",
            r"connection (refused|reset|lost|closed|dropped)|no route to host|network (is )?unreachable|expired",
            r"(local|internal|system|configuration|temporary) (server )?(error|failure|problem)|disk full",
            r"service (not available|unavailable)|server (busy|unavailable)|try again later|resources temporarily",
        ),
    ),
)
_COMPILED: Final = tuple((verdict, re.compile("|".join(words), re.IGNORECASE)) for verdict, words in PHRASES)

# By the last two numbers of the enhanced code, then by the middle one alone.
DETAILS: Final[dict[str, Verdict]] = {
    "1.0": DOUBTFUL, "1.1": GONE, "1.2": DOUBTFUL, "1.3": GONE, "1.4": DOUBTFUL, "1.6": GONE, "1.10": GONE,
    "1.7": Verdict(POLICY), "1.8": Verdict(POLICY), "1.9": Verdict(INFRASTRUCTURE),
    "2.0": DOUBTFUL, "2.1": DOUBTFUL, "2.2": SOFT_RECIPIENT, "2.3": Verdict(POLICY), "2.4": Verdict(INFRASTRUCTURE),
    "3.4": Verdict(POLICY), "7.25": Verdict(REPUTATION), "7.28": Verdict(REPUTATION),
}  # fmt: skip
SUBJECTS: Final[dict[str, Verdict]] = {
    "1": DOUBTFUL, "2": DOUBTFUL, "3": Verdict(INFRASTRUCTURE), "4": Verdict(INFRASTRUCTURE),
    "5": Verdict(INFRASTRUCTURE), "6": Verdict(POLICY), "7": Verdict(POLICY),
}  # fmt: skip
# 550 alone is "mailbox unavailable" by RFC 5321, and in life everything: without words it must suppress nobody.
CODES: Final[dict[int, Verdict]] = {
    450: SOFT_RECIPIENT, 551: DOUBTFUL, 552: SOFT_RECIPIENT, 553: DOUBTFUL, 521: DOUBTFUL, 556: DOUBTFUL,
    550: Verdict(POLICY), 554: Verdict(POLICY), 571: Verdict(POLICY),
}  # fmt: skip


def classify(code: int | None, enhanced: str, text: str) -> Verdict:
    """For the last answer of a next hop, or the words of a report. A 4xx, and no answer at all, is never hard."""
    found = _by_words(text[:TEXT_READ]) or _by_enhanced(enhanced) or CODES.get(code or 0) or _unknown(code, enhanced)
    permanent = code >= 500 if code is not None else enhanced.startswith("5")
    if permanent or not found.is_hard:
        return found
    return Verdict(found.bounce_class, is_hard=False)


def _by_words(text: str) -> Verdict | None:
    return next((verdict for verdict, words in _COMPILED if words.search(text)), None)


def _by_enhanced(enhanced: str) -> Verdict | None:
    _status, _dot, rest = enhanced.partition(".")
    return DETAILS.get(rest) or SUBJECTS.get(rest.partition(".")[0])


def _unknown(code: int | None, enhanced: str) -> Verdict:
    is_refusal = (code is not None and code >= 500) or (code is None and enhanced.startswith("5"))
    return Verdict(POLICY if is_refusal else INFRASTRUCTURE)
