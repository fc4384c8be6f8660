"""Masks: random numbers modulo 2^64 that two hospitals share and that cancel in the sum over all hospitals.

Every pair of hospitals has a secret (X25519 of their pinned keys). For each question a stream of uniform numbers is
made of it: HKDF-SHA-256 gives a key for ChaCha20, by everything that must be told apart, so that no stream is used
twice:

- the transcript of the beginning (`begin`), in which every hospital has put 32 fresh bytes of its own: another run of
  the same study has other masks, also where some of the hospitals, or the lead, repeat what they said before;
- the study, the number of the question, and its digest: masks of hospitals that were asked different questions under
  one number do not cancel, so the lead cannot have one hospital answer alone;
- the pair and its direction: the first, in the order of the study, adds the stream and the second takes it off.

Formal guarantee: to whoever knows neither a pair's secret nor what the pair answered, each of the two answers is
indistinguishable from uniform numbers on 2^64, whatever the patients are, as ChaCha20 is from random bits. With all but
one hospital's secrets known, of n hospitals, nothing is hidden but by noise (`dpsynth.privacy.shares`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpsynth.errors import InputError
from dpsynth.privacy.shares import Words

FRESH = 32
KEY = 32


@dataclass(frozen=True)
class Opening:
    """What a hospital says at the beginning of a run: its public keys, fresh bytes, and whether its noise is genuine.

    Parameters
    ----------
    public_keys
        64 bytes: its signing key and its masking key.
    fresh
        32 bytes that it drew for this run.
    private
        False where its noise comes from a seed, for tests.
    """

    public_keys: bytes
    fresh: bytes
    private: bool

    def __post_init__(self) -> None:
        if len(self.public_keys) != 2 * KEY or len(self.fresh) != FRESH:
            raise InputError("opening: expected 64 bytes of keys and 32 fresh ones.")

    def to_array(self) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """Return it as the bytes of a message."""
        return np.frombuffer(self.public_keys + self.fresh + bytes([self.private]), dtype=np.uint8)

    @classmethod
    def from_bytes(cls, opening: bytes) -> "Opening":
        """Read what `to_array` wrote; `InputError` when it is anything else."""
        if len(opening) != 2 * KEY + FRESH + 1 or opening[-1] > 1:
            raise InputError("opening: expected 64 bytes of keys, 32 fresh ones and one more.")
        return cls(opening[: 2 * KEY], opening[2 * KEY : -1], bool(opening[-1]))


class Masks:
    """The masks of one hospital, in one run.

    Parameters
    ----------
    name
        The hospital, one of the study's.
    private_key
        32 raw bytes: its X25519 key.
    openings
        What every hospital said at the beginning, in the order of the study, this one's included.
    study
        The study's digest.
    transcript
        `dpsynth.federated.messages.digest` of the question `begin`, which holds all openings.

    Raises
    ------
    InputError
        When a public key is none.
    """

    def __init__(
        self, name: str, private_key: bytes, openings: Mapping[str, Opening], *, study: str, transcript: str
    ) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

        mine, order = X25519PrivateKey.from_private_bytes(private_key), list(openings)
        self._salt = bytes.fromhex(study) + bytes.fromhex(transcript)
        self._others: list[tuple[bytes, bytes, bool]] = []
        for other in order:
            if other == name:
                continue
            try:
                secret = mine.exchange(X25519PublicKey.from_public_bytes(openings[other].public_keys[KEY:]))
            except ValueError:
                raise InputError(f"hospital {other!r}: its masking key is none.") from None
            adds = order.index(name) < order.index(other)
            first, second = (name, other) if adds else (other, name)
            self._others.append((secret, f"{first}>{second}".encode(), adds))

    def __repr__(self) -> str:
        return "Masks(...)"

    def __reduce__(self) -> Any:
        raise TypeError("secrets are not pickled")

    def hide(self, arrays: Sequence[Words], *, number: int, question: str) -> list[Words]:
        """Add this hospital's masks to its answer to one question; once for each.

        Parameters
        ----------
        arrays
            Whole numbers modulo 2^64.
        number, question
            The question's number and the digest of its bytes.

        Returns
        -------
        list of uint64 arrays
            Of the same shapes.
        """
        flat = np.concatenate([np.ravel(array) for array in arrays]) if len(arrays) else np.zeros(0, np.uint64)
        for secret, pair, adds in self._others:
            stream = self._stream(secret, pair, number, question, flat.size)
            flat = flat + stream if adds else flat - stream
        ends = np.cumsum([array.size for array in arrays])[:-1]
        return [part.reshape(array.shape) for part, array in zip(np.split(flat, ends), arrays, strict=True)]

    def _stream(self, secret: bytes, pair: bytes, number: int, question: str, size: int) -> Words:
        """Return the uniform numbers that a pair shares for one question."""
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = b"dpsynth mask 1|" + number.to_bytes(8, "little") + bytes.fromhex(question) + pair
        key = HKDF(SHA256(), length=32, salt=self._salt, info=info).derive(secret)
        stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
        return np.frombuffer(stream.update(bytes(8 * size)), dtype="<u8").astype(np.uint64)


def public_half(private_key: bytes) -> bytes:
    """Return the 32 raw bytes of the public key of an X25519 private key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
