"""A lead or a hospital as a process of its own, to be killed, frozen and interrupted."""

import json
import sys
import time

from dpsynth.federated.client import Link
from dpsynth.federated.keys import PrivateKeys
from dpsynth.federated.messages import FACTS, Question
from dpsynth.federated.relay import Relay
from dpsynth.federated.signing import TransportError

STUDY = "5a" * 32


def hospital(key: str, name: str, port: str, fingerprint: str, seconds: str) -> None:
    """Answer every question after so many seconds, saying what happens."""
    with Link(
        STUDY,
        PrivateKeys.load(key),
        name=name,
        address=f"https://127.0.0.1:{port}",
        fingerprint=fingerprint,
        proxy="",
        beat=0.1,
    ) as link:
        print("connected", flush=True)  # noqa: T201

        def answer(asked: bytes) -> bytes:
            print("asked", flush=True)  # noqa: T201
            time.sleep(float(seconds))
            return name.encode() + asked

        print(link.serve(answer), flush=True)  # noqa: T201


def lead(key: str, port: str, fingerprints: str, number: str) -> None:
    """Ask one question of everybody."""
    keys, known = PrivateKeys.load(key), json.loads(fingerprints)
    with Relay(STUDY, keys, known, host="127.0.0.1", port=int(port), hold=0.3, farewell=3) as relay:
        relay.wait_for_all(seconds=60)
        print("all here", flush=True)  # noqa: T201
        question = Question(STUDY, int(number), "counts", {name: [] for name in sorted(FACTS["counts"])}).to_bytes()
        print(*sorted(relay.ask(question, seconds=60)), flush=True)  # noqa: T201


if __name__ == "__main__":
    try:
        {"hospital": hospital, "lead": lead}[sys.argv[1]](*sys.argv[2:])
    except TransportError as error:
        sys.exit(str(error))
