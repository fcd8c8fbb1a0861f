"""relay.smtp.client under TLS, and how it signs in."""

import base64
from pathlib import Path
from typing import Any

import pytest

from relay.routes import NextHop
from tests.relay.delivery.conversing import BODY, ONE, codes, connect, refusal, yes
from tests.relay.delivery.scripted_server import FEATURES, ScriptedServer

# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_starttls_with_a_trusted_certificate(certificate: Path) -> None:
    """The mail goes under TLS, and what was offered in clear is asked again."""
    async with ScriptedServer(features=(*FEATURES, "STARTTLS"), certificate=certificate) as server:
        client = await connect(server, tls="starttls", ca_file=str(certificate))
        assert codes(await client.send(ONE, BODY, before_final_dot=yes)) == [250]
        assert client.tls_version == "TLSv1.3" and client.peer_ip == "127.0.0.1"
        assert [command.split()[0] for command in server.commands[:3]] == ["EHLO", "STARTTLS", "EHLO"]
        client.abort()


async def test_implicit_tls(certificate: Path) -> None:
    """TLS from the first octet."""
    async with ScriptedServer(certificate=certificate, implicit=True) as server:
        client = await connect(server, tls="implicit", ca_file=str(certificate))
        assert codes(await client.send(ONE, BODY, before_final_dot=yes)) == [250]
        assert client.tls_version == "TLSv1.3"
        client.abort()


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_certificate_nobody_trusts(certificate: Path, tls: str) -> None:
    """Without the file the authorities of the system decide: no session, and no mail in clear."""
    features = (*FEATURES, "STARTTLS")
    async with ScriptedServer(features=features, certificate=certificate, implicit=tls == "implicit") as server:
        assert "its certificate is not trusted (self-signed certificate)" in await refusal(server, tls=tls)
        assert not any(command.startswith("MAIL") for command in server.commands)


async def test_a_certificate_for_another_name(strange_certificate: Path) -> None:
    """Trusted, but not for this host."""
    async with ScriptedServer(features=("STARTTLS",), certificate=strange_certificate) as server:
        words = await refusal(server, tls="starttls", ca_file=str(strange_certificate))
        assert "is not trusted" in words and "IP address mismatch" in words


async def test_starttls_is_not_offered() -> None:
    """Nothing is sent in clear instead."""
    async with ScriptedServer() as server:
        assert "does not offer STARTTLS" in await refusal(server, tls="starttls")


async def test_replies_pushed_in_before_tls(certificate: Path) -> None:
    """What follows the 220 in clear would be read as if it came under TLS: the session ends (RFC 3207 5)."""
    script = {"STARTTLS": b"220 Go\r\n250 Injected\r\n"}
    async with ScriptedServer(script, ("STARTTLS",), certificate=certificate) as server:
        assert "more than its answer to STARTTLS" in await refusal(server, tls="starttls", ca_file=str(certificate))


# --- AUTH -------------------------------------------------------------------------------------------------------------

LOGIN: dict[str, Any] = {"username": "relay", "password": "pässword"}


async def test_auth_plain() -> None:
    """PLAIN is preferred, with its initial response."""
    async with ScriptedServer(features=("AUTH LOGIN PLAIN",)) as server:
        (await connect(server, **LOGIN)).abort()
        sent = base64.b64decode(server.commands[1].removeprefix("AUTH PLAIN "))
        assert sent == "\0relay\0pässword".encode()


@pytest.mark.parametrize("feature", ["AUTH LOGIN", "AUTH=LOGIN", "auth login"])
async def test_auth_login(feature: str) -> None:
    """LOGIN where PLAIN is not offered, in each spelling of the offer."""
    async with ScriptedServer(features=(feature,)) as server:
        (await connect(server, **LOGIN)).abort()
        assert [base64.b64decode(word).decode() for word in server.commands[2:4]] == ["relay", "pässword"]


async def test_a_wrong_login() -> None:
    """The server's words are told; the password is not among them."""
    async with ScriptedServer({"AUTH": "535 5.7.8 Wrong"}, ("AUTH PLAIN",)) as server:
        words = await refusal(server, **LOGIN)
        assert "refused (AUTH): 535 5.7.8 Wrong" in words and "pässword" not in words


async def test_no_mechanism_in_common() -> None:
    """CRAM-MD5 alone is none of ours."""
    async with ScriptedServer(features=("AUTH CRAM-MD5",)) as server:
        assert "offers neither AUTH PLAIN nor AUTH LOGIN" in await refusal(server, **LOGIN)


async def test_the_password_is_not_sent_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS it goes to this machine only."""
    monkeypatch.setattr(NextHop, "is_loopback", property(lambda self: False))
    async with ScriptedServer(features=("AUTH PLAIN",)) as server:
        assert "is not sent without TLS" in await refusal(server, **LOGIN)
        assert not any(command.startswith("AUTH") for command in server.commands)
