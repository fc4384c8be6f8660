"""A whole study over TLS on loopback: hospitals join with their files, the lead releases, ledgers hold each debit."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.errors import InputError
from dpsynth.federated.keys import PrivateKeys
from dpsynth.federated.lead import HospitalFailed
from dpsynth.federated.masks import Opening
from dpsynth.federated.messages import Answer, Question
from dpsynth.federated.signing import TransportError
from dpsynth.federated.study import Study
from dpsynth.jobs.federate import fit_together
from dpsynth.jobs.join import give_up, join_study, member_of, terms_of
from dpsynth.jobs.serve import relay_of
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.sources.scanned import open_cohort
from federated.helpers import FACTS, NAMES, SCHEMA, counts_question, rows

SECONDS = 60.0
KEYS = {name: PrivateKeys.make() for name in (*NAMES, "lead")}


class House:
    """The folders of a lead and three hospitals, each with its own files."""

    def __init__(self, folder: Path, **terms: Any) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        for seed, (name, keys) in enumerate(KEYS.items()):
            (folder / name).mkdir()
            keys.save(folder / name / "a.key")
            rows(seed, 60 + 10 * seed).to_csv(folder / name / "ward.csv", index=False)
        members = [{"name": name, "fingerprint": KEYS[name].public.fingerprint} for name in NAMES]
        address = f"https://127.0.0.1:{self.port}"
        lead = {"name": "lead", "fingerprint": KEYS["lead"].public.fingerprint, "address": address}
        facts = {"name": "wards", "epsilon": 1.0, "model": "independent", "schema": FACTS, "seconds": SECONDS}
        self.study = Study.parse({**facts, "hospitals": members, "lead": lead, **terms})
        self.study.dump(folder / "study.yaml")

    def ledger(self, name: str) -> Ledger:
        """Return a hospital's own ledger."""
        return Ledger(self.folder / name / "ward.csv.ledger.jsonl")

    def cohort(self, name: str) -> Any:
        """Return a hospital's patients."""
        return open_cohort(self.folder / name / "ward.csv", SCHEMA)

    def options(self, name: str) -> dict[str, Any]:
        """Return where a hospital keeps its run, and its key."""
        return {"key": self.folder / name / "a.key", "folder": self.folder / name / "run"}

    def relay(self, **options: Any) -> Any:
        """Return the lead's relay."""
        return relay_of(self.study, self.folder / "lead" / "a.key", listen=f"127.0.0.1:{self.port}", **options)


class Joining(threading.Thread):
    """A hospital that takes part, in a thread."""

    def __init__(self, house: House, name: str) -> None:
        super().__init__(daemon=True)
        self._house, self._name = house, name
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Join."""
        try:
            join_study(self._house.study, self._house.cohort(self._name), proxy="", **self._house.options(self._name))
        except BaseException as error:  # for the test to look at
            self.error = error


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Give the folders."""
    return House(tmp_path)


@pytest.fixture
def joined(house: House) -> Iterator[Callable[..., list[Joining]]]:
    """Give what lets hospitals join; each has ended at the end of the test."""
    joining: list[Joining] = []

    def join(*names: str) -> list[Joining]:
        joining.extend(Joining(house, name) for name in names)
        return joining

    yield join
    for hospital in joining:
        hospital.join(SECONDS)
        assert not hospital.is_alive()


def test_a_study_is_released_over_tls(house: House, joined: Callable[..., list[Joining]]) -> None:
    """The lead's model is that of all hospitals, and every hospital's ledger holds what the statement says."""
    with house.relay() as relay:
        hospitals = joined(*NAMES)
        relay.wait_for_all(seconds=SECONDS)
        fitted = fit_together(house.study, relay)
    for hospital in hospitals:
        hospital.join(SECONDS)
        assert hospital.error is None
    assert fitted.statement["private"] is True
    assert fitted.statement["hospitals"]["names"] == list(NAMES)
    assert abs(fitted.rows - 210) < 150
    for name in NAMES:
        (run,) = house.ledger(name).runs()
        assert run.closed
        assert house.ledger(name).spent().epsilon <= 1.0
        assert len(run.events or ()) == len(fitted.statement["events"])


def test_a_person_is_shown_and_asked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is spent, who asks what at which price is shown, and without a yes nothing is sent."""
    arguments = ["federate", "join", str(house.folder / "study.yaml"), str(house.folder / "north" / "ward.csv")]
    arguments += ["--key", str(house.folder / "north" / "a.key")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "nobody is at this terminal" in done.output
    for words in (
        *(KEYS[name].public.fingerprint for name in KEYS),
        "north (this hospital)",
        "independent",
        "sex, age, died",
        "epsilon 1, delta 1e-06",
        "up to 1 of 3 hospitals",
        "nothing spent before",
    ):
        assert words in done.output
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert not house.ledger("north").exists()
    assert not (house.folder / "study.run").exists()


def test_the_command_joins(house: House, joined: Callable[..., list[Joining]]) -> None:
    """`dpsynth federate join --yes` takes part, keeps its run beside the study file, and says where the debit is."""
    fitted: list[Any] = []

    def ask() -> None:
        with house.relay() as relay:
            relay.wait_for_all(seconds=SECONDS)
            fitted.append(fit_together(house.study, relay))

    asking = threading.Thread(target=ask)
    asking.start()
    joined("south", "west")
    arguments = ["federate", "join", str(house.folder / "study.yaml"), str(house.folder / "north" / "ward.csv")]
    arguments += ["--key", str(house.folder / "north" / "a.key"), "--yes", "--limit", "2", "--proxy", ""]
    done = CliRunner().invoke(app, arguments)
    asking.join(SECONDS)
    assert (done.exit_code, len(fitted)) == (0, 1), done.output
    assert "connected as north" in done.output
    assert "`dpsynth ledger show`" in done.output
    assert house.ledger("north").limit is not None
    assert house.ledger("north").limit.epsilon == 2
    assert (house.folder / "study.run").is_dir()


def test_the_ledger_of_one_hospital_ends_it_for_all(house: House, joined: Callable[..., list[Joining]]) -> None:
    """Where one hospital's limit is reached, the lead is refused by name, and that hospital spends nothing."""
    (house.folder / "south" / "ward.csv.ledger.jsonl").unlink(missing_ok=True)
    from dpsynth.privacy.spending.budget import Budget

    house.ledger("south").raise_limit(Budget(0.5, 1e-6), reason="board")
    with house.relay() as relay:
        joined(*NAMES)
        relay.wait_for_all(seconds=SECONDS)
        with pytest.raises(HospitalFailed, match="south"):
            fit_together(house.study, relay)
    assert house.ledger("south").runs() == []


def test_who_is_who_is_found_by_the_key(house: House) -> None:
    """A hospital is known by its key; a key that the study does not name is refused with its fingerprint."""
    assert [member_of(house.study, KEYS[name]) for name in NAMES] == list(NAMES)
    stranger = PrivateKeys.make()
    with pytest.raises(InputError, match=stranger.public.fingerprint):
        member_of(house.study, stranger)
    with pytest.raises(InputError, match=r"a\.key: has the fingerprint"):
        relay_of(house.study, house.folder / "north" / "a.key")


def test_terms_say_what_is_left_if_all_others_collude(house: House) -> None:
    """What a person sees holds the epsilon of this hospital's own noise: more than the study's, and not endless."""
    terms = terms_of(house.study, "north", house.cohort("north"))
    assert terms.alone is not None
    assert 1 < terms.alone < 2
    assert terms.kinds == ("counts", "interactions")
    assert terms.spent is None


@pytest.mark.parametrize("who", ["lead", "south"])
def test_a_study_over_the_network_is_pinned(house: House, who: str) -> None:
    """A study in which a fingerprint is missing can be neither joined nor asked over the network."""
    facts = house.study.model_dump(mode="json", by_alias=True)
    for member in (facts["lead"], *facts["hospitals"]):
        member["fingerprint"] = "" if member["name"] == who else member["fingerprint"]
    study = Study.parse(facts)
    for refused in (
        lambda: relay_of(study, house.folder / "lead" / "a.key"),
        lambda: join_study(study, house.cohort("north"), **house.options("north")),
    ):
        with pytest.raises(InputError, match=f"{who} has no fingerprint"):
            refused()


class Hostile:
    """A lead that asks what it likes, over the wire."""

    def __init__(self, house: House, relay: Any) -> None:
        self.study, self._relay = house.study, relay
        opened = self.ask(Question(self.study.digest, 0, "open"))
        self.openings = [Opening.from_bytes(Answer.from_bytes(opened[n]).arrays[0].tobytes()) for n in NAMES]

    def ask(self, question: Question | bytes) -> dict[str, bytes]:
        """Send what it likes."""
        message = question if isinstance(question, bytes) else question.to_bytes()
        return dict(self._relay.ask(message, seconds=SECONDS))

    def begin(self, openings: list[Opening] | None = None, names: list[str] | None = None) -> dict[str, bytes]:
        """Hand round keys, its own among them if it likes."""
        arrays = [opening.to_array() for opening in openings or self.openings]
        return self.ask(Question(self.study.digest, 1, "begin", {"hospitals": names or list(NAMES)}, arrays))

    def refusals(self, question: Question | bytes) -> list[str]:
        """Return why each hospital refuses; empty where one answers."""
        return [Answer.from_bytes(answer).refusal for answer in self.ask(question).values()]


def test_keys_that_the_relay_swaps_are_refused(house: House, joined: Callable[..., list[Joining]]) -> None:
    """A relay that hands each hospital a masking key of its own, in another's name, gets no answer and no debit."""
    own = PrivateKeys.make()
    with house.relay() as relay:
        joined(*NAMES)
        relay.wait_for_all(seconds=SECONDS)
        lead = Hostile(house, relay)
        swapped = bytearray(lead.openings[1].to_array().tobytes())
        swapped[32:64] = own.public.masking
        mixed = [lead.openings[0], Opening.from_bytes(bytes(swapped)), lead.openings[2]]
        refusals = [Answer.from_bytes(answer).refusal for answer in lead.begin(mixed).values()]
        assert len(refusals) == 3
        assert all("fingerprint" in words or "opening" in words for words in refusals)
    assert not any(house.ledger(name).exists() and house.ledger(name).runs() for name in NAMES)


def test_a_hostile_lead_is_refused_over_the_wire(house: House, joined: Callable[..., list[Joining]]) -> None:
    """Ten things that were not agreed on get ten refusals from every hospital, and spend nothing."""
    study = house.study.digest
    with house.relay() as relay:
        joined(*NAMES)
        relay.wait_for_all(seconds=SECONDS)
        lead = Hostile(house, relay)
        assert all(lead.refusals(_numbered(counts_question(house.study, 1), 2)))
        lead.begin()
        spent = [house.ledger(name).spent() for name in NAMES]
        counts = counts_question(house.study, 2)
        attempts: list[Question | bytes] = [
            Question("0" * 64, 2, counts.kind, counts.facts, counts.arrays),
            Question(study, 2, "open"),
            Question(study, 1, "begin", {"hospitals": list(NAMES[:2])}, [o.to_array() for o in lead.openings[:2]]),
            Question(study, 2, "begin", {"hospitals": list(NAMES)}, [o.to_array() for o in lead.openings]),
            _changed(counts, 3, columns=[["secret"]]),
            _changed(counts, 4, sigmas=[1e-9]),
            _changed(counts, 5, columns=[["age", "age"]]),
            _packed({"type": "question", "study": study, "number": 6, "kind": "run", "facts": {}, "arrays": []}),
            _packed({"type": "question", "study": study, "number": 7, "kind": "counts", "facts": {}, "arrays": []}),
            _packed({"type": "question", "study": study, "number": 8}),
        ]
        assert len(attempts) == 10
        for attempt in attempts:
            refusals = lead.refusals(attempt)
            assert len(refusals) == 3
            assert all(refusals), attempt
        assert [house.ledger(name).spent() for name in NAMES] == spent


def _numbered(question: Question, number: int) -> Question:
    return Question(question.study, number, question.kind, question.facts, question.arrays)


def _changed(question: Question, number: int, **facts: Any) -> Question:
    return Question(question.study, number, question.kind, {**question.facts, **facts}, question.arrays)


def _packed(header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return b"DPSF\x01" + len(text).to_bytes(4, "little") + text


def test_a_run_is_given_up(house: House, joined: Callable[..., list[Joining]]) -> None:
    """After a lead that stopped early, all that was reserved counts; given up, what was spent alone does."""
    with contextlib.suppress(ZeroDivisionError), house.relay() as relay:
        joined(*NAMES)
        relay.wait_for_all(seconds=SECONDS)
        Hostile(house, relay).begin()
        raise ZeroDivisionError
    for hospital in joined():
        hospital.join(SECONDS)
        assert isinstance(hospital.error, TransportError)
    assert not house.ledger("north").runs()[0].closed
    reserved = house.ledger("north").spent().epsilon
    give_up(house.study, house.cohort("north"), **house.options("north"))
    assert house.ledger("north").runs()[0].closed
    assert house.ledger("north").spent().epsilon < reserved
    with pytest.raises(InputError, match="nothing to give up"):
        give_up(house.study, house.cohort("north"), key=house.folder / "north" / "a.key", folder=house.folder / "no")
