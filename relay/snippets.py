"""Setup snippets: how common clients send through Gatepost, filled in; the secret is read from the environment.

Shapes  Snippet: language-neutral text to copy. VARIABLE is where every snippet reads the app password from.
Source  docs/security.md, When one has leaked: no credential stands in code.
"""

from dataclasses import dataclass

VARIABLE = "GATEPOST_PASSWORD"


@dataclass(frozen=True, slots=True)
class Door:
    """Where and as whom to send."""

    host: str
    port: int  # STARTTLS
    tls_port: int  # TLS from the first octet
    username: str
    sender: str


@dataclass(frozen=True, slots=True)
class Snippet:
    key: str
    title: str
    text: str


TEXTS = (
    (
        "django",
        "Django",
        """\
# settings.py
import os

EMAIL_HOST = "{host}"
EMAIL_PORT = {port}
EMAIL_USE_TLS = True
EMAIL_HOST_USER = "{username}"
EMAIL_HOST_PASSWORD = os.environ["{variable}"]
DEFAULT_FROM_EMAIL = "{sender}"
""",
    ),
    (
        "node",
        "Node.js: Nodemailer",
        """\
import nodemailer from "nodemailer";

const transport = nodemailer.createTransport({{
  host: "{host}",
  port: {port},
  requireTLS: true,
  auth: {{ user: "{username}", pass: process.env.{variable} }},
}});

await transport.sendMail({{
  from: "{sender}",
  to: "you@example.org",
  subject: "Hello from Gatepost",
  text: "It works.",
}});
""",
    ),
    (
        "phpmailer",
        "PHP: PHPMailer",
        """\
use PHPMailer\\PHPMailer\\PHPMailer;

$mail = new PHPMailer(true);
$mail->isSMTP();
$mail->Host = '{host}';
$mail->Port = {port};
$mail->SMTPSecure = PHPMailer::ENCRYPTION_STARTTLS;
$mail->SMTPAuth = true;
$mail->Username = '{username}';
$mail->Password = getenv('{variable}');
$mail->setFrom('{sender}');
$mail->addAddress('you@example.org');
$mail->Subject = 'Hello from Gatepost';
$mail->Body = 'It works.';
$mail->send();
""",
    ),
    (
        "symfony",
        "PHP: Symfony Mailer",
        """\
# config/packages/mailer.yaml
framework:
    mailer:
        dsn: 'smtp://{username}:%env(urlencode:{variable})%@{host}:{port}'
""",
    ),
    (
        "curl",
        "curl",
        """\
printf 'From: {sender}\\r\\nTo: you@example.org\\r\\nSubject: Hello from Gatepost\\r\\n\\r\\nIt works.\\r\\n' |
curl --ssl-reqd --url "smtp://{host}:{port}" \\
     --user "{username}:${variable}" \\
     --mail-from "{sender}" --mail-rcpt "you@example.org" --upload-file -
""",
    ),
    (
        "swaks",
        "swaks",
        """\
swaks --server {host}:{port} --tls --auth PLAIN \\
      --auth-user "{username}" --auth-password "${variable}" \\
      --from "{sender}" --to "you@example.org"
""",
    ),
    (
        "msmtp",
        "msmtp, as sendmail",
        """\
# ~/.msmtprc
account gatepost
host {host}
port {port}
tls on
auth scram-sha-256
user {username}
passwordeval printenv {variable}
from {sender}
account default : gatepost
""",
    ),
    (
        "postfix",
        "Postfix, as its relayhost",
        """\
# As root, with {variable} in the environment:
umask 077
echo "[{host}]:{port} {username}:${variable}" > /etc/postfix/sasl_passwd
postmap /etc/postfix/sasl_passwd
postconf -e "relayhost = [{host}]:{port}" \\
            "smtp_tls_security_level = encrypt" \\
            "smtp_sasl_auth_enable = yes" \\
            "smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd" \\
            "smtp_sasl_security_options = noanonymous"
postfix reload
""",
    ),
)


def snippets(door: Door) -> list[Snippet]:
    values = {
        "host": door.host,
        "port": door.port,
        "tls_port": door.tls_port,
        "username": door.username,
        "sender": door.sender,
        "variable": VARIABLE,
    }
    return [Snippet(key, title, text.format(**values)) for key, title, text in TEXTS]
