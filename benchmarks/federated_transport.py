"""Bytes and seconds of several hospitals over TLS on loopback: a question, a step of a training, a whole release.

The lead runs in this process and its hospitals in another, each with its own connection, certificate and signatures.
With ``--delay 0.05`` every piece that is sent, either way, arrives 50 ms later, by a forwarder between the two, which
also counts bytes. Releases are of SUPPORT2, divided evenly, at epsilon 1; hospitals read their patients before the
clock starts.

Examples
--------
::

    python benchmarks/federated_transport.py --hospitals 5 20 --delay 0 0.05
    python benchmarks/federated_transport.py --hospitals 5 --only releases
"""

import argparse
import asyncio
import collections
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dpsynth.datasets import load_support2
from dpsynth.federated.client import Link
from dpsynth.federated.keys import PrivateKeys
from dpsynth.federated.messages import Question
from dpsynth.federated.relay import Relay
from dpsynth.federated.study import Study
from dpsynth.federated.transport import InProcess
from dpsynth.jobs.federate import fit_together, open_hospital, split_evenly
from dpsynth.jobs.fit import fit

RESULTS = Path(__file__).parent / "results"
SIZES = {
    "counts": (1_000, 1_000),
    "pair tables": (20_000, 400_000),
    "step, 0.3 million weights": (1_200_000, 2_400_000),
    "step, 2.5 million weights": (10_000_000, 20_000_000),
}
"""Bytes of a question and of an answer: weights go out as float32, sums of gradients come back modulo 2^64."""
REPEATS = 5
SPAWN = multiprocessing.get_context("spawn")
SECONDS = 600.0


class Forwarder:
    """Carries connections to a port, each piece so many seconds later, and counts bytes; in a process of its own."""

    def __init__(self, port: int, delay: float) -> None:
        self._here, there = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_forward, args=(port, delay, there), daemon=True)
        self._process.start()
        self.port: int = self._here.recv()

    def counted(self) -> tuple[int, int]:
        """Return bytes to and from the lead so far."""
        self._here.send("count")
        up, down = self._here.recv()
        return up, down

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()


def _forward(port: int, delay: float, pipe: Any) -> None:
    counts = collections.Counter[str]()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def read() -> None:
            piece = b"?"
            while piece:
                with contextlib.suppress(ConnectionError):
                    piece = await reader.read(1 << 18)
                counts[way] += len(piece)
                queue.put_nowait((time.monotonic() + delay, piece))

        reading = asyncio.create_task(read())
        while True:
            due, piece = await queue.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not piece:
                break
            with contextlib.suppress(ConnectionError):
                writer.write(piece)
                await writer.drain()
        writer.close()
        await reading

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, far_writer, "up"), pump(far_reader, writer, "down"))

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
        pipe.send(server.sockets[0].getsockname()[1])
        while True:
            await asyncio.to_thread(pipe.recv)
            pipe.send((counts["up"], counts["down"]))

    asyncio.run(serve())


def study_of(keys: dict[str, PrivateKeys], lead: PrivateKeys, schema: Any) -> Study:
    """Return a study of these hospitals over SUPPORT2 at epsilon 1."""
    members = [{"name": name, "fingerprint": of.public.fingerprint} for name, of in keys.items()]
    asker = {"name": "lead", "fingerprint": lead.public.fingerprint, "address": "https://127.0.0.1"}
    facts = {"name": "transport", "epsilon": 1.0, "schema": schema.without_counts().to_dict(), "seconds": SECONDS}
    return Study.parse({**facts, "hospitals": members, "lead": asker})


def serve_hospitals(  # noqa: PLR0917  (arguments of a process)
    folder: str, port: int, fingerprint: str, study: str, answer_bytes: int, ready: Any
) -> None:
    """Run hospitals in threads: real ones where there is a study file, else ones that answer so many bytes."""
    place = Path(folder)
    paths = sorted(place.glob("*.key"))
    agreed = Study.load(place / "study.yaml") if answer_bytes == 0 else None
    parts = split_evenly(load_support2(), [path.stem for path in paths]) if agreed else {}

    def answers(path: Path) -> Callable[[bytes], bytes]:
        keys = PrivateKeys.load(path)
        if agreed is None:
            return lambda _asked: bytes(answer_bytes)
        run = place / f"{path.stem}.{port}.run"
        own = {"signing_public": keys.public.signing, "masking_key": keys.masking.private_bytes_raw()}
        return open_hospital(agreed, path.stem, parts[path.stem], run, **own).answer

    def take_part(path: Path, answer: Callable[[bytes], bytes]) -> None:
        address = f"https://127.0.0.1:{port}"
        with Link(
            study, PrivateKeys.load(path), name=path.stem, address=address, fingerprint=fingerprint, proxy=""
        ) as to:
            to.serve(answer)

    opened = [(path, answers(path)) for path in paths]
    threads = [threading.Thread(target=take_part, args=one) for one in opened]
    for thread in threads:
        thread.start()
    ready.set()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def connected(
    keys: dict[str, PrivateKeys], folder: Path, *, study: str, answer_bytes: int, delay: float
) -> Iterator[tuple[Relay, Forwarder | None, int]]:
    """Give a relay to which every hospital of another process has connected, and that process's number."""
    lead = PrivateKeys.load(folder / "lead" / "lead.key")
    known = {name: of.public.fingerprint for name, of in keys.items()}
    ready = SPAWN.Event()
    with Relay(study, lead, known, host="127.0.0.1", port=0, silence=120.0) as relay:
        between = Forwarder(relay.port, delay) if delay else None
        port = between.port if between else relay.port
        args = (str(folder), port, lead.public.fingerprint, study, answer_bytes, ready)
        process = SPAWN.Process(target=serve_hospitals, args=args, daemon=True)
        process.start()
        relay.wait_for_all(seconds=SECONDS)
        yield relay, between, process.pid or 0
    process.join(30)
    process.kill()
    if between:
        between.close()


@contextlib.contextmanager
def houses(count: int) -> Iterator[tuple[Path, dict[str, PrivateKeys], Study]]:
    """Give a folder with keys and a study of so many hospitals."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        keys = {f"h{i:02d}": PrivateKeys.make() for i in range(count)}
        for name, of in keys.items():
            of.save(folder / f"{name}.key")
        lead = PrivateKeys.make()
        (folder / "lead").mkdir()
        lead.save(folder / "lead" / "lead.key")
        study = study_of(keys, lead, load_support2().schema)
        study.dump(folder / "study.yaml")
        yield folder, keys, study


def questions(count: int, delay: float) -> list[dict[str, Any]]:
    """Time questions of several sizes."""
    found = []
    with houses(count) as (folder, keys, study):
        for what, (asked, answered) in SIZES.items():
            if count > 5 and answered > 10_000_000:
                continue  # 20 times 20 MB would measure this machine's memory
            with connected(keys, folder, study=study.digest, answer_bytes=answered, delay=delay) as (
                relay,
                between,
                other,
            ):
                found.append(
                    {"what": what, "hospitals": count, "delay": delay} | _timed(asked, count, relay, between, other)
                )
            print(found[-1], flush=True)
    return found


def _timed(asked: int, count: int, relay: Relay, between: Forwarder | None, other: int) -> dict[str, Any]:
    worked = cpu_seconds(other)
    seconds, before = [], between.counted() if between else (0, 0)
    for number in range(REPEATS):
        question = Question("0" * 64, number, "open").to_bytes() + bytes(asked)
        began = time.perf_counter()
        came = relay.ask(question, seconds=SECONDS)
        seconds.append(time.perf_counter() - began)
        if len(came) != count:
            raise RuntimeError(f"{count - len(came)} hospitals did not answer")
    after = between.counted() if between else (0, 0)
    up, down = ((b - a) / REPEATS / count for a, b in zip(before, after, strict=True))
    spread = {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    cpu = (cpu_seconds(other) - worked) / REPEATS
    return spread | {"cpu": cpu, "bytes_up": up, "bytes_down": down}


def cpu_seconds(other: int = 0) -> float:
    """Return processor seconds of this process and another one, which other work on the machine does not move."""
    path = Path(f"/proc/{other}/stat")
    fields = path.read_text().rpartition(")")[2].split() if path.is_file() else ["0"] * 13
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def releases(count: int, delays: list[float]) -> list[dict[str, Any]]:
    """Time a fit of PRISM: central, over hospitals in this process, and over TLS."""
    found: list[dict[str, Any]] = []
    cohort = load_support2()

    def note(way: str, delay: float, fitting: Callable[[], Any], by: Forwarder | None = None, other: int = 0) -> None:
        began, worked = time.perf_counter(), cpu_seconds(other)
        fitting()
        up, down = by.counted() if by else (0, 0)
        facts = {"way": way, "hospitals": count, "delay": delay, "seconds": time.perf_counter() - began}
        facts["cpu"] = cpu_seconds(other) - worked
        found.append(facts | {"bytes_up": up / count, "bytes_down": down / count})
        print(found[-1], flush=True)

    fit(cohort, "independent", epsilon=1.0)  # loads what every way loads
    note("central", 0.0, lambda: fit(cohort, "prism", epsilon=1.0))
    with houses(count) as (folder, keys, study):
        parts = split_evenly(cohort, study.names)
        own = {
            name: {"signing_public": of.public.signing, "masking_key": of.masking.private_bytes_raw()}
            for name, of in keys.items()
        }
        here = {name: open_hospital(study, name, parts[name], folder / f"{name}.here", **own[name]) for name in keys}
        note("in one process", 0.0, lambda: fit_together(study, InProcess(here)))
        for delay in delays:
            with connected(keys, folder, study=study.digest, answer_bytes=0, delay=delay) as (relay, by, other):
                note("over TLS", delay, lambda to=relay: fit_together(study, to), by, other)
    return found


def write(questions_found: list[dict[str, Any]], releases_found: list[dict[str, Any]]) -> None:
    """Write the tables."""
    path = RESULTS / "federated_transport.json"
    kept = json.loads(path.read_text()) if path.is_file() else {"questions": [], "releases": []}
    for name, rows in (("questions", questions_found), ("releases", releases_found)):
        kept[name] = rows or kept[name]
    path.write_text(json.dumps(kept, indent=1) + "\n")
    asked, released = pd.DataFrame(kept["questions"]), pd.DataFrame(kept["releases"])
    lines = ["# Several hospitals over TLS on loopback", ""]
    words = "Two cores for the lead and all hospitals together; fastest of five (median), beside other work there."
    lines += [words, ""]
    of_bytes = "KB to the lead, a hospital | KB from it |"
    lines += [f"| what | hospitals | added to each message | s a question | CPU s, all together | {of_bytes}"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [
        f"| {r.what} | {r.hospitals} | {1000 * r.delay:.0f} ms | {r.fastest:.3f} ({r.seconds:.3f}) | {r.cpu:.3f} | "
        f"{_kilobytes(r.bytes_up)} | {_kilobytes(r.bytes_down)} |"
        for r in asked.itertuples()
    ]
    lines += ["", "A whole fit of PRISM on SUPPORT2 at epsilon 1, single runs:", ""]
    lines += [f"| way | hospitals | added to each message | s | CPU s, all together | {of_bytes}"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [
        f"| {r.way} | {r.hospitals} | {1000 * r.delay:.0f} ms | {r.seconds:.1f} | {r.cpu:.1f} | "
        f"{_kilobytes(r.bytes_up)} | {_kilobytes(r.bytes_down)} |"
        for r in released.itertuples()
    ]
    (RESULTS / "federated_transport.md").write_text("\n".join(lines) + "\n")


def _kilobytes(count: float) -> str:
    """Return bytes as they were counted by the forwarder; it stands between where something is added alone."""
    return f"{count / 1000:,.1f}" if count else ""


def main() -> None:
    """Run what is asked for and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hospitals", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--delay", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--only", choices=["questions", "releases"])
    options = parser.parse_args()
    np.random.seed(0)  # noqa: NPY002  (nothing is drawn from it but by libraries)
    asked = [
        row
        for count in options.hospitals
        for delay in options.delay
        for row in (questions(count, delay) if options.only != "releases" else [])
    ]
    released = [
        row
        for count in options.hospitals
        for row in (releases(count, options.delay) if options.only != "questions" else [])
    ]
    write(asked, released)


if __name__ == "__main__":
    main()
