"""Why there is no server for a destination."""


class NoNextHopError(Exception):
    """Said as a server would say it. A code of 400 to 499: perhaps later; from 500 on: never."""

    def __init__(self, code: int, enhanced_code: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.enhanced_code = enhanced_code

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500
