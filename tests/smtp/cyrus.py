"""Cyrus SASL's client, the one within Postfix and others, by its own library.

Shapes  CyrusClient(username, secret).start(mechanisms) -> (its choice, first message); step(challenge) -> message.
Source  sasl/sasl.h. Skipped by name where the library or its SCRAM module is not installed.
"""

import ctypes
import ctypes.util
from typing import Any

import pytest

OK, CONTINUE = 0, 1
USER, AUTHNAME, PASS, END = 0x4001, 0x4002, 0x4004, 0
GetSimple = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_uint)
)
GetSecret = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)
)


class _Callback(ctypes.Structure):
    _fields_ = (("id", ctypes.c_ulong), ("proc", ctypes.c_void_p), ("context", ctypes.c_void_p))


def library() -> Any:
    name = ctypes.util.find_library("sasl2")
    if name is None:
        pytest.skip("Cyrus SASL is not installed")
    found = ctypes.CDLL(name)
    assert found.sasl_client_init(None) == OK
    return found


class CyrusClient:
    """One exchange."""

    def __init__(self, username: str, secret: str) -> None:
        self._sasl = library()
        self._name, data = ctypes.c_char_p(username.encode()), secret.encode()
        layout = type(
            "Secret",
            (ctypes.Structure,),
            {"_fields_": (("length", ctypes.c_ulong), ("data", ctypes.c_char * (len(data) + 1)))},
        )
        self._secret = layout(len(data), data)
        self._keep = (GetSimple(self._give_name), GetSecret(self._give_secret))
        name, secret_giver = (ctypes.cast(each, ctypes.c_void_p).value for each in self._keep)
        self._callbacks = (_Callback * 4)(
            _Callback(USER, name, None), _Callback(AUTHNAME, name, None), _Callback(PASS, secret_giver, None),
            _Callback(END, None, None),
        )  # fmt: skip
        self._conn = ctypes.c_void_p()
        made = self._sasl.sasl_client_new(
            b"smtp", b"mail.gatepost.example", None, None, self._callbacks, 0, ctypes.byref(self._conn)
        )
        assert made == OK, made

    def start(self, mechanisms: str) -> tuple[str, bytes]:
        out, length, chosen = ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_char_p()
        code = self._sasl.sasl_client_start(
            self._conn, mechanisms.encode(), None, ctypes.byref(out), ctypes.byref(length), ctypes.byref(chosen)
        )
        if code == -4:  # SASL_NOMECH
            pytest.skip("Cyrus SASL has no SCRAM module")
        assert code in (OK, CONTINUE), code
        return (chosen.value or b"").decode(), ctypes.string_at(out, length.value) if out else b""

    def step(self, challenge: bytes) -> bytes:
        out, length = ctypes.c_void_p(), ctypes.c_uint()
        code = self._sasl.sasl_client_step(
            self._conn, challenge, len(challenge), None, ctypes.byref(out), ctypes.byref(length)
        )
        assert code in (OK, CONTINUE), code
        return ctypes.string_at(out, length.value) if out else b""

    def _give_name(self, _context: Any, _id: int, result: Any, length: Any) -> int:
        result[0] = self._name
        if length:
            length[0] = len(self._name.value or b"")
        return OK

    def _give_secret(self, _conn: Any, _context: Any, _id: int, secret: Any) -> int:
        secret[0] = ctypes.addressof(self._secret)
        return OK
