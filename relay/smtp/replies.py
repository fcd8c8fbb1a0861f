"""Every reply of the SMTP door, each with its source. Texts are ASCII; `{}` fields are filled by `Reply.text`.

Shapes  Reply(code, enhanced, text). refusals (4xx, 5xx) get ` [ref XXXXXXXXXX]` from the session.
Source  RFC 5321 4.2, RFC 3463 and RFC 5248 (enhanced codes), RFC 4954 (AUTH), RFC 3207 (STARTTLS).
        Clients read codes so: Postfix defers on 450, 451, 454 and 535, and bounces on 550. A limit is always 4xx.
"""

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Reply:
    code: int
    enhanced: str
    text: str

    def filled(self, **fields: object) -> "Reply":
        return Reply(self.code, self.enhanced, self.text.format(**fields))

    @property
    def refuses(self) -> bool:
        return self.code >= 400

    def line(self, reference: str | None = None) -> bytes:
        """The octets of the reply; a refusal carries its reference."""
        return _encoded(self) if reference is None else self._encode(reference)

    def _encode(self, reference: str | None) -> bytes:
        tail = f" [ref {reference}]" if reference else ""
        enhanced = f" {self.enhanced}" if self.enhanced else ""
        return f"{self.code}{enhanced} {self.text}{tail}\r\n".encode("ascii", "replace")


@lru_cache(maxsize=1000)
def _encoded(reply: Reply) -> bytes:
    return reply._encode(None)


# Session
OK = Reply(250, "2.0.0", "OK")
BYE = Reply(221, "2.0.0", "Bye")
VRFY = Reply(252, "2.1.5", "Cannot verify; send the message and it will be tried")  # RFC 5321 3.5.3
EXPN = Reply(502, "5.5.1", "EXPN is not offered")
HELP = Reply(214, "2.0.0", "https://www.rfc-editor.org/rfc/rfc5321")
UNKNOWN_COMMAND = Reply(500, "5.5.2", "Command not recognized")
BAD_LINE = Reply(500, "5.5.2", "Commands end with CRLF")
TOO_LONG = Reply(500, "5.5.2", "Command line too long")
SYNTAX = Reply(501, "5.5.4", "Syntax: {syntax}")
BAD_HELO = Reply(501, "5.5.2", "The name after {verb} is not a host name or address literal")
SEND_EHLO = Reply(503, "5.5.1", "Send EHLO first")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing the connection")
IDLE = Reply(421, "4.4.2", "Timeout, closing the connection")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections, try again later")
BANNED = Reply(421, "4.7.0", "Your address is banned for {seconds} seconds after too many failed logins")
SHUTTING_DOWN = Reply(421, "4.3.2", "Shutting down, try again shortly")
UNEXPECTED = Reply(451, "4.3.0", "Something went wrong here, try again later")
UNAVAILABLE = Reply(451, "4.3.0", "The message could not be stored, try again later")

# TLS (RFC 3207)
STARTTLS_READY = Reply(220, "2.0.0", "Ready to start TLS")
STARTTLS_FIRST = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
TLS_ALREADY = Reply(503, "5.5.1", "TLS is already active")
TLS_UNAVAILABLE = Reply(454, "4.7.0", "TLS is not available, try again later")

# AUTH (RFC 4954)
AUTHENTICATED = Reply(235, "2.7.0", "Authentication succeeded")
AUTH_REQUIRED = Reply(530, "5.7.0", "Authentication required")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Encryption required for authentication")
AUTH_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid")  # one text for every cause
AUTH_UNAVAILABLE = Reply(454, "4.7.0", "Temporary authentication failure, try again later")
AUTH_THROTTLED = Reply(454, "4.7.0", "Too many failed logins from your address; try again in {seconds} seconds")
AUTH_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication mechanism")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
AUTH_NOT_BASE64 = Reply(501, "5.5.2", "The response could not be decoded")
AUTH_CHANNEL_BINDING = Reply(501, "5.5.4", "Channel binding is not offered")  # RFC 5802 6
AUTH_INITIAL = Reply(501, "5.7.0", "This mechanism takes no initial response")
AUTH_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
AUTH_AGAIN = Reply(503, "5.5.1", "Already authenticated")
AUTH_IN_MAIL = Reply(503, "5.5.1", "AUTH is not permitted during a mail transaction")
AUTH_TOO_MANY = Reply(421, "4.7.0", "Too many failed authentications, closing the connection")

# MAIL and RCPT (RFC 5321 4.1.1.2, 4.1.1.3; RFC 6409)
SENDER_OK = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK")
BAD_SENDER = Reply(501, "5.1.7", "{why}")
BAD_RECIPIENT = Reply(501, "5.1.3", "{why}")
BAD_PARAMETER = Reply(501, "5.5.4", "{why}")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized: {name}")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "The address is not ASCII: send it with SMTPUTF8")
NULL_SENDER = Reply(550, "5.7.1", "This SMTP user may not send with an empty return path")
NOT_YOUR_SENDER = Reply(550, "5.7.1", "{why}")
SUPPRESSED = Reply(550, "5.1.1", "The recipient is suppressed: {why}")
NOT_OURS = Reply(550, "5.1.1", "This server takes reports for its own return paths only")  # the bounce port
NESTED_MAIL = Reply(503, "5.5.1", "A mail transaction is open already")
MAIL_FIRST = Reply(503, "5.5.1", "Send MAIL first")
RCPT_FIRST = Reply(503, "5.5.1", "No valid recipients")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients; {most} a message at most")
NO_ROOM_RECIPIENT = Reply(452, "4.5.3", "Room for {room} more emails this hour; send the other recipients later")
OVER_LIMIT = Reply(451, "4.7.1", "The limit of {limit} emails an hour {whose} is reached; room in {seconds} seconds")
PAYMENT_DUE = Reply(450, "4.7.1", "Sending is held: an invoice is overdue. It goes on within a minute of the payment")
NEVER_FITS = Reply(
    452, "4.5.3", "{count} recipients never fit the limit of {limit} emails an hour {whose}; send fewer at once"
)
ENDED = Reply(421, "4.7.0", "The credential was withdrawn, closing the connection")
TOKEN_ENDED = Reply(421, "4.7.0", "The access token has expired, closing the connection")
NO_MEMORY = Reply(452, "4.3.1", "Too much mail is in flight here, try again in a moment")
NO_DISK = Reply(452, "4.3.1", "The disk is nearly full here, try again later")
TOO_BIG = Reply(552, "5.3.4", "The message exceeds {most} octets")

# DATA and BDAT (RFC 5321 4.1.1.4, RFC 3030)
START_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
ACCEPTED = Reply(250, "2.0.0", "OK: queued as {reference}")
HELD = Reply(250, "2.0.0", "OK: held as {reference} until the hourly limit has room")
CHUNK_OK = Reply(250, "2.0.0", "{octets} octets received")
BARE_LINE_END = Reply(554, "5.5.2", "The message has a bare CR, a bare LF or a NUL; lines end with CRLF")
LONG_LINE = Reply(554, "5.6.0", "A line of the message has more than {most} octets")
MAIL_LOOP = Reply(554, "5.4.6", "Too many Received headers: the message goes in a circle")
ONE_FROM = Reply(550, "5.7.1", "The message needs exactly one From header with exactly one address")
BAD_HEADER = Reply(554, "5.6.0", "{why}")
DATA_AFTER_BDAT = Reply(503, "5.5.1", "BDAT has begun; DATA is not permitted")
BDAT_FAILED = Reply(503, "5.5.1", "The chunk is dropped: no mail transaction is open")


def whose(scope: int) -> str:
    """Which limit an over-limit reply speaks of."""
    return {1: "of your plan", 2: "of this SMTP user", 3: "of your address"}[scope]
