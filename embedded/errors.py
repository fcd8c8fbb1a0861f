"""What can go wrong with the embedded servers, as one line that a person can act on."""


class EmbeddedError(Exception):
    """The message is printed as it stands: it names what is wrong and what to do."""
