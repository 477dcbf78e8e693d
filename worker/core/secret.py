"""Values that ``repr``, messages and logs do not show: secrets and long certificates."""

import re
from typing import Final, Self, final

_PEM: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)


@final
class SecretStr:
    """A text that neither its own ``repr`` nor that of its container shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return "**********" if self._text else ""

    def __repr__(self) -> str:
        return f"SecretStr('{self}')"


@final
class Certificates:
    """PEM certificates of authorities, without other text of their file."""

    __slots__ = ("pem",)

    def __init__(self, pem: str) -> None:
        self.pem: Final = pem

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the certificates in a text. Raises ValueError if there are none."""
        found = _PEM.findall(text)
        if not found:
            raise ValueError(
                "must hold certificates in PEM, which begin -----BEGIN CERTIFICATE-----"
            )
        return cls("\n".join([*found, ""]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificates) and self.pem == other.pem

    def __hash__(self) -> int:
        return hash(self.pem)

    def __str__(self) -> str:
        number = self.pem.count("BEGIN CERTIFICATE")
        return f"{number} certificate{'s' if number > 1 else ''}"

    def __repr__(self) -> str:
        return f"Certificates('{self}')"
