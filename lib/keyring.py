"""The keys that seal what we must be able to read again: ENCRYPTION_KEYS. The first one seals, all of them open."""

import re
from collections.abc import Iterator

KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
KEY = re.compile(r"[0-9a-fA-F]{64}")
BARE_ID = "0"  # of S1's ENCRYPTION_KEY, which has no name


class BadKeys(ValueError):
    """ENCRYPTION_KEYS cannot be read. The text never says what stands in it."""


class KeyRing:
    """Keys of 32 bytes by their id, in order. It shows ids only, whoever prints it."""

    __slots__ = ("__keys",)

    def __init__(self, keys: dict[str, bytes]) -> None:
        self.__keys = keys

    @classmethod
    def parse(cls, named: str, bare: str = "") -> "KeyRing":
        """The ring of "2026b:<64 hex>,2026a:<64 hex>" and of S1's bare hex, which comes last. Raises BadKeys."""
        keys: dict[str, bytes] = {}
        pairs = [part.strip().partition(":") for part in named.split(",") if part.strip()]
        if bare.strip():
            pairs.append((BARE_ID, ":", bare.strip()))
        for number, (key_id, _, text) in enumerate(pairs, start=1):
            if not KEY_ID.fullmatch(key_id) or not KEY.fullmatch(text):
                raise BadKeys(
                    f"Key number {number} of ENCRYPTION_KEYS is not of the form id:<64 hexadecimal digits>. "
                    "Make one: openssl rand -hex 32"
                )
            if key_id in keys:
                raise BadKeys(f"Two keys of ENCRYPTION_KEYS are called {key_id}: each needs a name of its own.")
            keys[key_id] = bytes.fromhex(text)
        return cls(keys)

    @property
    def sealing_id(self) -> str:
        """The id of the key that seals; "" = there is none."""
        return next(iter(self.__keys), "")

    def key(self, key_id: str) -> bytes | None:
        return self.__keys.get(key_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__keys)

    def __contains__(self, key_id: object) -> bool:
        return key_id in self.__keys

    def __bool__(self) -> bool:
        return bool(self.__keys)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.__keys)})"

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("A KeyRing cannot be pickled or copied.")
