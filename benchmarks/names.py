"""A DNS server for benchmarks: every domain has one mail server, and that one is 127.0.0.1.

Usage   python -m benchmarks.names PORT
Shapes  MX of any name: 10 mx.bench.example. A of any name: 127.0.0.1. Anything else: no such record.
Source  RFC 1035 4.1. Questions are copied into their answers, so that it costs a few microseconds for each.
"""

import socket
import struct
import sys

A, MX = 1, 15
MINUTES = 600
SERVER = b"\x02mx\x05bench\x07example\x00"
QUESTION_AT = b"\xc0\x0c"  # a pointer to the question's name


def answer(question: bytes) -> bytes:
    end = question.index(b"\0", 12) + 5
    (kind,) = struct.unpack("!H", question[end - 4 : end - 2])
    data = {A: b"\x7f\0\0\1", MX: b"\0\x0a" + SERVER}.get(kind)
    head = question[:2] + struct.pack("!HHHHH", 0x8580, 1, 1 if data else 0, 0, 0)
    record = QUESTION_AT + struct.pack("!HHIH", kind, 1, MINUTES, len(data)) + data if data else b""
    return head + question[12:end] + record


def main(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", port))
        while True:
            question, sender = door.recvfrom(4096)
            door.sendto(answer(question), sender)


if __name__ == "__main__":
    main(int(sys.argv[1]))
