"""Failed mail and the reports on it.

Shapes  noted(Note, …): as a settle would, due at once. written() -> what was written to senders: message row,
        recipient's address, parsed mail, oldest first.
"""

from email import message_from_bytes
from email.message import Message as Mail
from email.policy import default
from typing import Any

from asgiref.sync import sync_to_async

from relay.bounces.hook import Note, note_reports, suppress
from relay.database import connect
from relay.models import Message, MessageData, Recipient
from tests.relay.delivery.conftest import async_orm

__all__ = ["async_orm"]


async def noted(*notes: Note) -> None:
    """Reports and suppressions written as within a settle, due at once."""
    async with await connect(application_name="test") as conn, conn.transaction():
        await note_reports(conn, notes)
        await suppress(conn, [note for note in notes if note.kind == "failed"])
        await conn.execute("UPDATE relay_report SET due_at = now() WHERE written_at IS NULL")


def _written() -> list[tuple[Message, str, Mail]]:
    found = []
    for message in Message.objects.filter(organization__is_system=True).order_by("received_at", "id"):
        content = bytes(MessageData.objects.get(message=message).content)
        (recipient,) = Recipient.objects.filter(message=message)
        found.append((message, recipient.address, message_from_bytes(content, policy=default)))
    return found


written: Any = sync_to_async(_written)
