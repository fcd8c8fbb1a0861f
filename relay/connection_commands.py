"""Commands by which somebody tests the way to Gatepost by hand, filled in, the secret read from the environment.

Shapes  commands_for(door, ca_file) -> Commands in the order in which a connection comes about. ca_file: of an authority
        that only this installation has; empty where everybody trusts the certificate.
Source  docs/security.md, When one has leaked: no credential stands in a command, where others could read it.
"""

from dataclasses import dataclass
from shlex import quote
from typing import Any

from django.utils.translation import gettext as _

from relay.snippets import VARIABLE, Door


@dataclass(frozen=True, slots=True)
class Command:
    """note: what its answer should be, and what another one means."""

    title: str
    text: str
    note: Any


def commands_for(door: Door, *, ca_file: str = "") -> list[Command]:
    values = {
        "host": door.host,
        "port": door.port,
        "tls_port": door.tls_port,
        "user": quote(door.username),
        "sender": quote(door.sender),
        "variable": VARIABLE,
        "ca_openssl": f" -CAfile {quote(ca_file)}" if ca_file else "",
        "ca_curl": f" --cacert {quote(ca_file)}" if ca_file else "",
        "ca_swaks": f" --tls-ca-path {quote(ca_file)}" if ca_file else "",
    }
    return [Command(title, text.format(**values), note) for title, text, note in _texts()]


def _texts() -> list[tuple[str, str, str]]:
    return [
        (
            _("1. Is the port open?"),
            "nc -vz {host} {port}\nnc -vz {host} {tls_port}\n\n"
            "# Windows\nTest-NetConnection {host} -Port {port}\nTest-NetConnection {host} -Port {tls_port}",
            _("“Succeeded” is well. If it waits and gives up, a firewall blocks the port: try the other one."),
        ),
        (
            _("2. Does TLS begin, and is the certificate trusted?"),
            "openssl s_client -starttls smtp -connect {host}:{port} \\\n"
            "    -servername {host} -verify_return_error{ca_openssl} -brief </dev/null\n"
            "openssl s_client -connect {host}:{tls_port} \\\n"
            "    -servername {host} -verify_return_error{ca_openssl} -brief </dev/null",
            _(
                "“Verification: OK” is well. “verify error”: the machine does not know the authority, or the name is"
                " another one."
            ),
        ),
        (
            _("3. The app password, typed and not shown"),
            "read -rs {variable} && export {variable}",
            _("Paste it and press Enter. The commands below read it from there; it stays out of your history."),
        ),
        (
            _("4. Sign in and send, with curl"),
            "printf 'From: %s\\r\\nTo: %s\\r\\nSubject: Test\\r\\n\\r\\nIt works.\\r\\n' \\\n"
            "    {sender} {sender} |\n"
            "curl --verbose --ssl-reqd --url smtp://{host}:{port}{ca_curl} \\\n"
            '    --user {user}:"${variable}" \\\n'
            "    --mail-from {sender} --mail-rcpt {sender} --upload-file -",
            _("It sends one mail to your own sender address. “250” after the data means that Gatepost has it."),
        ),
        (
            _("or with swaks"),
            "swaks --server {host}:{port} --tls --tls-verify{ca_swaks} \\\n"
            '    --auth PLAIN --auth-user {user} --auth-password "${variable}" \\\n'
            "    --from {sender} --to {sender} --h-Subject Test",
            _("With --quit-after AUTH it only signs in."),
        ),
    ]
