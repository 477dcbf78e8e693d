"""Computed GUIDs: index to id and back in constant time, without storage.

Every generated object has an index. Its id is a prefix (one of a few, so that ids spread over
the whole GUID space) and twelve decimal digits, an affine permutation of the index keyed by the
seed. Only digits, so that the same text fits in an upper-case GUID, a SID or an address.
"""

from hashlib import blake2b
from math import gcd

SPACE = 10**12
DIGITS = 12
PREFIX_LENGTH = 24


class KeyPermutation:
    """The permutation of one type of object."""

    def __init__(self, seed: int, kind: str) -> None:
        digest = blake2b(f"{seed}/{kind}".encode(), digest_size=16).digest()
        step = int.from_bytes(digest[:8]) % SPACE | 1
        while gcd(step, SPACE) != 1:
            step += 2
        self._step = step % SPACE
        self._start = int.from_bytes(digest[8:]) % SPACE
        self._inverse = pow(self._step, -1, SPACE)

    def key_at(self, index: int) -> bytes:
        return b"%012d" % ((self._start + index * self._step) % SPACE)

    def keys_between(self, start: int, stop: int) -> list[bytes]:
        first, step = self._start, self._step
        return [b"%012d" % ((first + i * step) % SPACE) for i in range(start, stop)]

    def index_of(self, key: str) -> int:
        return (int(key) - self._start) * self._inverse % SPACE


class Guids:
    """The ids of one type of object: `id_at(index)` and `index_of(id)` are inverse."""

    def __init__(self, seed: int, kind: str, prefixes: int = 1) -> None:
        self.keys = KeyPermutation(seed, kind)
        self.prefixes = prefixes
        self._seed, self._kind = seed, kind
        self._made: dict[int, str] = {}

    def prefix_at(self, number: int) -> str:
        """Return the first 24 characters of the ids of one template's objects."""
        made = self._made.get(number)
        if made is None:
            h = blake2b(f"{self._seed}/{self._kind}/{number}".encode(), digest_size=8).hexdigest()
            made = f"{h[:8]}-{h[8:12]}-4{h[12:15]}-{'89ab'[int(h[15], 16) % 4]}{h[3:6]}-"
            self._made[number] = made
        return made

    def id_at(self, index: int) -> str:
        return self.prefix_at(index % self.prefixes) + self.keys.key_at(index).decode()

    def index_of(self, guid: str) -> int | None:
        """Return the index of an id in either case; None for a GUID that was not generated."""
        tail = guid[PREFIX_LENGTH:]
        if len(tail) != DIGITS or not (tail.isascii() and tail.isdigit()):
            return None
        index = self.keys.index_of(tail)
        return (
            index if guid[:PREFIX_LENGTH].lower() == self.prefix_at(index % self.prefixes) else None
        )


def guid_from_parts(*parts: object) -> str:
    """Return a version 4 GUID that depends only on the parts."""
    h = blake2b("/".join(map(str, parts)).encode(), digest_size=16).hexdigest()
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{'89ab'[int(h[16], 16) % 4]}{h[17:20]}-{h[20:]}"
