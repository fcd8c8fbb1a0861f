"""How many events a second one worker process posts to one good endpoint: signed, over TLS, one POST each.

Usage   python -m benchmarks webhooks [--events 10000] [--late-ms 0] [--dead 0]
Shapes  A JSON line: events, seconds, events a second, processor seconds of the sender, latencies of the endpoint, and
        whether each event came exactly once. The endpoint is a small server of its own on 127.0.0.2 that keeps its
        connections and answers after --late-ms. --dead: endpoints beside it that never answer, 100 events each.
Units   seconds, milliseconds.
Errors  Status 1 where an event is missing or came twice.
"""

import argparse
import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ADDRESS = "127.0.0.2"
DEAD = 100  # events of each dead one


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks webhooks", description="Posts to one good endpoint.")
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--late-ms", type=int, default=0, help="how long the endpoint takes to answer")
    parser.add_argument("--dead", type=int, default=0, help="endpoints beside it that never answer")
    given = parser.parse_args(arguments)
    from benchmarks.database import Database

    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        place = Path(name)
        place.chmod(0o711)
        settings = {
            "GATEPOST_OUTSIDE_ALLOWED": f"{ADDRESS}/32",
            "GATEPOST_OUTSIDE_CA_FILE": str(place / "tls" / "ca.pem"),
        }
        with Database(place / "webhooks", settings=settings) as database:
            words = [str(place), str(given.events), str(given.late_ms), str(given.dead)]
            return database.run("benchmarks.webhooks", "--inside", *words)


def inside(place: Path, events: int, late_ms: int, dead: int) -> int:
    """Within the installation whose database was made."""
    import django

    django.setup()
    from relay.certificate import ensure_certificate

    pem = ensure_certificate(place, ADDRESS).certificate
    command = [sys.executable, "-m", "benchmarks.webhooks", "--endpoint", str(pem), str(late_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        port = int(server.stdout.readline())
        figures = _posted(port, events, dead)
        server.stdin.close()
        came = json.loads(server.stdout.readline())
    is_exact = came["ids"] == came["posts"] == events
    print(json.dumps({"benchmark": "webhooks", **figures, "late_ms": late_ms, "dead": dead, **came, "exact": is_exact}))
    return 0 if is_exact else 1


def _posted(port: int, events: int, dead: int) -> dict[str, Any]:
    from django.utils import timezone

    from accounts.models import Organization
    from audit.changes import SYSTEM
    from relay.webhooks.endpoints import create_endpoint
    from relay.webhooks.models import Delivery
    from relay.webhooks.sender import Sender

    organization = Organization.objects.create(name="Bench", slug="bench", state="active")
    urls = [f"https://{ADDRESS}:{port}/hook", *(f"https://{ADDRESS}:{port}/dead" for _number in range(dead))]
    rows = [create_endpoint(organization, url=url, events=["delivered"], actor=SYSTEM).endpoint for url in urls[:20]]
    data = {"message_id": "0199b1f0-0000-7000-8000-000000000000", "reference": "K7Q2MX9TA4", "state": "delivered",
            "recipient": "somebody@example.net", "code": 250, "enhanced_code": "2.0.0", "words": "Ok",
            "smtp_user": "shop.bench", "header_message_id": "<1@bench.example>", "attempt": 1}  # fmt: skip
    for row, count in [(rows[0], events), *((each, DEAD) for each in rows[1:])]:
        waiting = (
            Delivery(endpoint=row, organization_id=organization.pk, type="delivered", data=data)
            for _each in range(count)
        )
        Delivery.objects.bulk_create(waiting, batch_size=5000)
    sender = Sender()
    thread = threading.Thread(target=sender.run)
    began, used = time.perf_counter(), _processor()
    thread.start()
    while Delivery.objects.filter(endpoint=rows[0], settled_at=None).exists():
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    used = _processor() - used
    sender.stop()
    thread.join()
    assert Delivery.objects.filter(endpoint=rows[0], settled_at__lte=timezone.now()).count() == events
    rate = round(events / seconds)
    return {"events": events, "seconds": round(seconds, 2), "events_per_second": rate, "sender_cpu": round(used, 2)}


def _processor() -> float:
    times = os.times()
    return times.user + times.system


# --- The endpoint -----------------------------------------------------------------------------------------------------


def endpoint(pem: Path, late_ms: int) -> None:
    """Prints its port; counts posts and ids until its input ends, and prints how many."""
    asyncio.run(_serve(pem, late_ms / 1000))


async def _serve(pem: Path, late: float) -> None:
    ids: set[bytes] = set()
    posts = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal posts
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                await reader.readexactly(int(fields[b"content-length"]))
                if head.startswith(b"POST /dead"):
                    await asyncio.sleep(3600)
                posts += 1
                ids.add(fields[b"webhook-id"])
                if late:
                    await asyncio.sleep(late)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(talk, ADDRESS, 0, ssl=context, backlog=500)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"posts": posts, "ids": len(ids)}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "--endpoint":
        endpoint(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        raise SystemExit(inside(Path(sys.argv[2]), *map(int, sys.argv[3:6])))
