"""Reports as servers write them, addresses replaced. Each is (name, null sender, mail, what it says)."""

# ruff: noqa: E501  # words as they were given, each answer on its own line

DSN = """\
From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4YBC.1700000000/mx.example.net"

This is a MIME-encapsulated message.

--4YBC.1700000000/mx.example.net
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.net.

<you@example.net>: host inner.example.net[192.0.2.7] said: 550 5.1.1
    <you@example.net>: Recipient address rejected: User unknown (in reply to RCPT TO command)

--4YBC.1700000000/mx.example.net
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
Arrival-Date: Tue, 24 Nov 2026 13:00:00 +0000 (UTC)

Final-Recipient: rfc822; you@example.net
Original-Recipient: rfc822;you@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; inner.example.net
Diagnostic-Code: smtp; 550 5.1.1 <you@example.net>: Recipient address
    rejected: User unknown

--4YBC.1700000000/mx.example.net
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

Subject: Hello
Content-Type: message/delivery-status

Action: delivered

--4YBC.1700000000/mx.example.net--
"""
EXCHANGE_DSN = """\
From: <postmaster@outlook.example>
Subject: Undeliverable: Hello
Content-Type: multipart/report; report-type=delivery-status; boundary=abc

--abc
Content-Type: multipart/alternative; differences=Content-Type; boundary="def"

--def
Content-Type: text/plain; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

you@outlook.example wasn't found at outlook.example.
--def--

--abc
Content-Type: message/delivery-status

Reporting-MTA: dns;AM0PR01.outlook.example

Final-Recipient: rfc822;you@outlook.example
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient you@outlook.example not found by SMTP address lookup

--abc--
"""
QMAIL = """\
From: MAILER-DAEMON@qmail.example.net
Subject: failure notice

Hi. This is the qmail-send program at qmail.example.net.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<you@example.net>:
Sorry, no mailbox here by that name. vpopmail (#5.1.1)

--- Below this line is a copy of the message.

Return-Path: <x@bounces.example>
Subject: 450 4.2.1 is no answer
"""
EXIM = """\
X-Failed-Recipients: you@example.net
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@exim.example.net>
Subject: Mail delivery failed: returning message to sender

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  you@example.net
    host mx.example.net [192.0.2.1]
    SMTP error from remote mail server after RCPT TO:<you@example.net>:
    550 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using zen.spamhaus.org

------ This is a copy of the message, including all the headers. ------

Subject: Hello
"""
SENDMAIL = """\
From: Mail Delivery Subsystem <MAILER-DAEMON@sendmail.example.net>
Subject: Returned mail: see transcript for details

The original message was received at Tue, 24 Nov 2026 13:00:00 GMT
from localhost [127.0.0.1]

   ----- The following addresses had permanent fatal errors -----
<you@example.net>
    (reason: 550 5.1.1 <you@example.net>... User unknown)

   ----- Transcript of session follows -----
... while talking to mx.example.net.:
>>> RCPT To:<you@example.net>
<<< 550 5.1.1 <you@example.net>... User unknown
550 5.1.1 <you@example.net>... User unknown

   ----- Message header follows -----
Subject: Hello
"""
POSTFIX_TEXT = """\
From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender

This is the mail system at host mx.example.net.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

<you@example.net>: host inner.example.net[192.0.2.7] said: 552 5.2.2 Quota
    exceeded (mailbox for user is full) (in reply to end of DATA command)
"""
EXCHANGE_TEXT = """\
From: Microsoft Outlook <postmaster@exchange.example.net>
Subject: Undeliverable: Hello
Content-Type: multipart/mixed; boundary=m

--m
Content-Type: multipart/alternative; boundary=a

--a
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

RGVsaXZlcnkgaGFzIGZhaWxlZCB0byB0aGVzZSByZWNpcGllbnRzIG9yIGdyb3VwczoKCnlvdUBleGFtcGxlLm5ldApUaGUgZW1haWwgYWRkcmVzcyB5b3UgZW50ZXJlZCBjb3VsZG4ndCBiZSBmb3VuZC4KCkRpYWdub3N0aWMgaW5mb3JtYXRpb24gZm9yIGFkbWluaXN0cmF0b3JzOgpHZW5lcmF0aW5nIHNlcnZlcjogZXhjaGFuZ2UuZXhhbXBsZS5uZXQKCnlvdUBleGFtcGxlLm5ldApSZW1vdGUgU2VydmVyIHJldHVybmVkICc1NTAgNS4xLjEgUkVTT0xWRVIuQURSLlJlY2lwTm90Rm91bmQ7IG5vdCBmb3VuZCcKCk9yaWdpbmFsIG1lc3NhZ2UgaGVhZGVyczoKClN1YmplY3Q6IEhlbGxvCg==
--a--
--m--
"""
GMAIL_TEXT = """\
From: Mail Delivery Subsystem <mailer-daemon@googlemail.example>
Subject: Delivery Status Notification (Failure)
X-Failed-Recipients: you@gmail.example

** Address not found **

Your message wasn't delivered to you@gmail.example because the address couldn't be found, or is unable to receive mail.

The response was:

550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email
address for typos or unnecessary spaces.
"""
DELAYED_TEXT = """\
From: Mail Delivery System <Mailer-Daemon@exim.example.net>
Subject: Warning: message delayed 24 hours
Auto-Submitted: auto-replied

This message was created automatically by mail delivery software.
A message that you sent has not yet been delivered to one or more of its
recipients after more than 24 hours on the queue on exim.example.net.

  you@example.net
    host mx.example.net [192.0.2.1]: 451 4.3.0 Temporary server error

No action is required on your part. Delivery attempts will continue for
some time.
"""
UTF8_DSN = """\
From: mailer-daemon@mx.example.net
Subject: failure
Content-Type: multipart/report; report-type=delivery-status; boundary=u

--u
Content-Type: text/plain

no
--u
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: utf-8; j\\x{F6}rg@example.net
Action: failed
Status: 5.0.0
Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach
 550 5.1.1 does not exist

--u--
"""
SUCCESS_DSN = """\
From: mailer-daemon@mx.example.net
Subject: Successful Mail Delivery Report
Content-Type: multipart/report; report-type=delivery-status; boundary=s

--s
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; you@example.net
Action: delivered
Status: 2.0.0
Diagnostic-Code: smtp; 250 2.0.0 Ok

Final-Recipient: rfc822; me@example.net
Action: eaten
Status: 2.0.0

--s--
"""
OUT_OF_OFFICE = """\
From: You <you@example.net>
Subject: Re: Hello
Auto-Submitted: auto-replied (vacation)

I am away until 5.1.2027. In urgent cases call extension 550 or write to postmaster@example.net.
"""
PERSON = """\
From: You <you@example.net>
Subject: Undeliverable? I got it

Your mail could not be delivered to my colleague, 550 5.1.1 it said.
"""
VACATION_WITH_COPY = f"""\
From: You <you@example.net>
Subject: Away
Auto-Submitted: auto-replied

Here is what you sent.
{DSN}
"""

# name, whether the envelope's sender was null, the mail; then action, first address, code, enhanced code, part of the words
REPORTS = (
    ("Postfix", True, DSN, ("failed", "you@example.net", 550, "5.1.1", "User unknown")),
    ("Exchange Online", True, EXCHANGE_DSN, ("failed", "you@outlook.example", 550, "5.1.10", "RecipientNotFound")),
    ("qmail", True, QMAIL, ("failed", "you@example.net", None, "5.1.1", "no mailbox here")),
    ("Exim", True, EXIM, ("failed", "you@example.net", 550, "5.7.1", "spamhaus")),
    ("Sendmail", True, SENDMAIL, ("failed", "you@example.net", 550, "5.1.1", "User unknown")),
    ("Postfix, stripped", True, POSTFIX_TEXT, ("failed", "you@example.net", 552, "5.2.2", "Quota exceeded")),
    ("Exchange", False, EXCHANGE_TEXT, ("failed", "you@example.net", 550, "5.1.1", "RecipNotFound")),
    ("Gmail", True, GMAIL_TEXT, ("failed", "you@gmail.example", 550, "5.1.1", "does not exist")),
    ("Exim, delayed", True, DELAYED_TEXT, ("delayed", "you@example.net", 451, "4.3.0", "Temporary server error")),
    ("by number", True, UTF8_DSN, ("failed", "jörg@example.net", 550, "5.1.1", "does not exist")),
    ("success", True, SUCCESS_DSN, ("delivered", "you@example.net", 250, "2.0.0", "Ok")),
)
NO_REPORTS = (
    ("out of office", True, OUT_OF_OFFICE),
    ("a person", False, PERSON),
    ("a vacation notice with a copy", True, VACATION_WITH_COPY),
    ("nothing", True, ""),
    ("no words", True, "From: mailer-daemon@example.net\nSubject: hm\n\nHello\n"),
)
