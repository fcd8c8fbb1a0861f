"""SASLprep: names and passwords that look alike become alike, before SCRAM compares or hashes them.

Shapes  prepared(text) -> text, as a query: code points that Unicode 3.2 does not know pass.
Errors  Prohibited: control characters, private use, surrogates, or directions mixed as no name has them.
Source  RFC 4013, with the tables of RFC 3454 from Python's stringprep.
"""

import stringprep
from unicodedata import ucd_3_2_0

_PROHIBITED = (  # RFC 4013 2.3
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class Prohibited(ValueError):
    pass


def prepared(text: str) -> str:
    """Raises Prohibited."""
    if text.isascii() and text.isprintable():
        return text
    spaces = (" " if stringprep.in_table_c12(each) else each for each in text)
    mapped = "".join(each for each in spaces if not stringprep.in_table_b1(each))  # RFC 4013 2.1
    normal = ucd_3_2_0.normalize("NFKC", mapped)  # 2.2
    if any(is_in(each) for each in normal for is_in in _PROHIBITED):
        raise Prohibited
    if any(stringprep.in_table_d1(each) for each in normal):  # RFC 3454 6: right-to-left throughout, or not at all
        ends_so = stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1])
        if not ends_so or any(stringprep.in_table_d2(each) for each in normal):
            raise Prohibited
    return normal
