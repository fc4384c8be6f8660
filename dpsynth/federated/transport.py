"""Transport within one process: for tests, for a demonstration, and for parts of a cohort that are on one machine."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Protocol


class Answering(Protocol):
    """What answers a question: a `dpsynth.federated.hospital.Hospital`, or what stands before one."""

    def answer(self, message: bytes) -> bytes:
        """Return the answer's bytes."""
        ...


class InProcess:
    """A transport that calls hospitals in this process, one after another: torch's settings are those of all threads.

    Parameters
    ----------
    hospitals
        By their names in the study.
    """

    def __init__(self, hospitals: Mapping[str, Answering]) -> None:
        self._hospitals = dict(hospitals)
        self._thread = ThreadPoolExecutor(max_workers=1)

    def ask(self, question: bytes, *, seconds: float) -> dict[str, bytes]:
        """Return the answers that came in time; see `dpsynth.federated.messages.Transport`."""
        asked = {name: self._thread.submit(hospital.answer, question) for name, hospital in self._hospitals.items()}
        wait(asked.values(), timeout=seconds)
        for future in asked.values():
            future.cancel()
        done = {name: future for name, future in asked.items() if future.done() and not future.cancelled()}
        return {name: future.result() for name, future in done.items() if future.exception() is None}
