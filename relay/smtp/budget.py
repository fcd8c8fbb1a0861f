"""Memory for messages in flight: a stated number of octets for the machine, divided among its processes.

Units   octets. Each octet of content counts COPIES times: as received, as completed, as parameter, on its way out.
Errors  None: what does not fit is answered 452 4.3.1, at MAIL where that can be known, else at the end of the data.
"""

COPIES = 4
ROOM_FOR_ONE = 64 * 1024  # what MAIL asks for when the client declares no SIZE


class Budget:
    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def has_room(self, octets: int) -> bool:
        return self.used + octets * COPIES <= self.most

    def take(self, octets: int) -> bool:
        """Books the octets, if there is room for them."""
        if not self.has_room(octets):
            return False
        self.used += octets * COPIES
        return True

    def give(self, octets: int) -> None:
        self.used -= octets * COPIES
