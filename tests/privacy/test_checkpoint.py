"""Runs that are taken up again: whatever stops or copies them, each question and each step is done at most once."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpsynth.coding.query import Query
from dpsynth.errors import DpsynthError, FileError, InputError, LedgerError
from dpsynth.privacy import resuming as kept
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.images.features import Linear
from dpsynth.privacy.resuming import Checkpoint
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training.teachers import Panel

from .helpers import fine
from .networks import Squares, linear, scans

ONE = Budget(1, 1e-5)
PLAN = TrainingPlan.within(ONE, sampling_rate=0.5, steps=40, questions=0.3)  # 20 blocks of 2 steps
BASIS = Linear(np.eye(64)[:3], np.zeros(64))
QUESTIONS = 4


class Watch:
    """Counts what the data was asked and which steps were trained; stops the run at a moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: Counter[str] = Counter()
        self.stop_at: tuple[str, int] | None = None
        self.steps: list[int] = []
        real_counts, real_sums = PrivateAnswers.counts, PrivateAnswers.image_sums
        monkeypatch.setattr(PrivateAnswers, "counts", lambda *a: self._note("counts", real_counts, *a))
        monkeypatch.setattr(PrivateAnswers, "image_sums", lambda *a: self._note("sums", real_sums, *a))

    def _note(self, name: str, real: Any, *asked: Any) -> Any:
        key = f"{name}{len(self.asked)}" if name == "sums" else f"{name} {asked[2]}"
        found = real(*asked)
        self.asked[key] += 1
        self.meet("asked", sum(self.asked.values()))
        return found

    def meet(self, what: str, number: int) -> None:
        """Stop the run if this is the moment, once."""
        if self.stop_at == (what, number):
            self.stop_at = None
            raise KeyboardInterrupt

    def run(self, folder: Path, book: Path) -> tuple[Any, ...]:
        """Ask four questions and train; return everything that came of it."""
        torch.manual_seed(0)
        objective = Squares(linear())
        optimiser = torch.optim.Adam(objective.parameters(), lr=1e-3)

        def update(step: int) -> None:
            optimiser.step()
            self.steps.append(step)
            self.meet("step", step)

        with Session.open(
            scans(30, public=False), ONE, training=PLAN, ledger=Ledger(book), checkpoint=Checkpoint(folder)
        ) as session:
            price = session.rho / QUESTIONS
            counts = [session.count([fine(session, "label")], [price * share])[0].counts for share in (1, 0.9, 0.8)]
            sums = session.image_sums(Query((), ()), BASIS, price)
            session.train(objective, update, expected=30, records="images", state={"optimiser": optimiser})
            assert session.statement()["private"] is True
        weights = torch.cat([p.detach().flatten() for p in objective.parameters()])
        return (*[c.tolist() for c in counts], sums.tolist(), weights)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Return a watch over what the data is asked."""
    return Watch(monkeypatch)


@pytest.mark.parametrize("moment", [("step", 0), ("step", 1), ("step", 2), ("step", 17), ("step", 39)])
def test_a_training_that_was_stopped_is_taken_up(watch: Watch, tmp_path: Path, moment: tuple[str, int]) -> None:
    """No question is asked again, no step is done again; steps of the block that was cut off are left out."""
    book = tmp_path / "scans.ledger.jsonl"
    watch.stop_at = moment
    with pytest.raises(KeyboardInterrupt):
        watch.run(tmp_path / "run", book)
    first = list(watch.steps)
    assert not Ledger(book).runs()[0].closed
    assert 0.99 < Ledger(book).spent().epsilon <= 1  # it counts in full
    watch.run(tmp_path / "run", book)
    assert set(watch.asked.values()) == {1}
    later = watch.steps[len(first) :]
    assert not set(first) & set(later)
    assert later == list(range(2 * (moment[1] // 2 + 1), 40))  # a block has 2 steps
    runs = Ledger(book).runs()
    assert len(runs) == 1
    assert runs[0].closed
    assert runs[0].trained() == (PLAN.event,)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_question_that_was_lost_is_not_asked_again(watch: Watch, tmp_path: Path, number: int) -> None:
    """An answer that was drawn and not written down is gone: asking again would spend twice, so the run ends."""
    book = tmp_path / "scans.ledger.jsonl"
    watch.stop_at = ("asked", number)
    with pytest.raises(KeyboardInterrupt):
        watch.run(tmp_path / "run", book)
    with pytest.raises(LedgerError, match="may not be done again"):
        watch.run(tmp_path / "run", book)
    assert sum(watch.asked.values()) == number


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("steps", [40, 41, 3])
def test_a_question_after_a_training_is_asked_once(tmp_path: Path, steps: int, *, lost: bool) -> None:
    """Stopped after a question that follows the training, the run reads its answer again, or if it is lost, ends."""
    plan = TrainingPlan.within(ONE, sampling_rate=0.5, steps=steps, questions=0.3)

    def run(*, stop: bool) -> list[int]:
        with Session.open(
            scans(30, public=False),
            ONE,
            training=plan,
            ledger=Ledger(tmp_path / "scans.ledger.jsonl"),
            checkpoint=Checkpoint(tmp_path / "run"),
        ) as session:
            session.count([fine(session, "label")], [session.rho / 9])
            session.train(Squares(linear()), lambda _step: None, expected=30, records="images")
            found = session.count([fine(session, "label")], [session.rho / 8])[0].counts
            if stop:
                raise KeyboardInterrupt
        return list(found)

    with pytest.raises(KeyboardInterrupt):
        run(stop=True)
    (last,) = [path for path in (tmp_path / "run").glob("*.npz") if path.name != "00000.npz"]
    if lost:
        last.unlink()
        with pytest.raises(LedgerError, match="may not be done again"):
            run(stop=False)
    else:
        written = last.read_bytes()
        first, second = run(stop=False), run(stop=False)
        assert first == second
        assert last.read_bytes() == written
        assert len(list((tmp_path / "run").glob("*.npz"))) == 2


def test_a_run_that_does_less_when_taken_up_counts_in_full(watch: Watch, tmp_path: Path) -> None:
    """What was answered and trained before the run was stopped is spent, also if the next call leaves it out."""
    book = tmp_path / "scans.ledger.jsonl"
    watch.stop_at = ("step", 5)
    with pytest.raises(KeyboardInterrupt):
        watch.run(tmp_path / "run", book)
    for _ in range(2):
        with Session.open(
            scans(30, public=False), ONE, training=PLAN, ledger=Ledger(book), checkpoint=Checkpoint(tmp_path / "run")
        ) as session:
            session.count([fine(session, "label")], [session.rho / QUESTIONS])
        assert not Ledger(book).runs()[0].closed
        assert 0.99 < Ledger(book).spent().epsilon <= 1
    watch.run(tmp_path / "run", book)
    assert Ledger(book).runs()[0].closed


def test_a_run_that_ended_is_replayed_without_data(watch: Watch, tmp_path: Path) -> None:
    """The same call again gives the same answers and weights from the folder: nothing is asked, trained or spent."""
    book = tmp_path / "scans.ledger.jsonl"
    first = watch.run(tmp_path / "run", book)
    before, asked = book.read_text(), dict(watch.asked)
    again = watch.run(tmp_path / "run", book)
    assert again[:4] == first[:4]
    assert torch.equal(again[4], first[4])
    assert dict(watch.asked) == asked
    assert book.read_text() == before


def test_a_copied_folder_cannot_spend_again(watch: Watch, tmp_path: Path) -> None:
    """Of two copies of a run that was stopped, the first to go on wins; the other is refused, whatever it asks."""
    book = tmp_path / "scans.ledger.jsonl"
    watch.stop_at = ("step", 9)
    with pytest.raises(KeyboardInterrupt):
        watch.run(tmp_path / "run", book)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    watch.stop_at = ("step", 21)
    with pytest.raises(KeyboardInterrupt):
        watch.run(tmp_path / "run", book)
    done = Counter(watch.steps)
    watch.steps.clear()
    watch.run(tmp_path / "copy", book)  # it leaves out all that the other began
    assert not set(watch.steps) & {step for step in done if step >= 10}
    watch.steps.clear()
    with pytest.raises(LedgerError):
        watch.run(tmp_path / "run", book)
    assert watch.steps == []


def test_another_call_is_refused(watch: Watch, tmp_path: Path) -> None:
    """A folder belongs to one budget, training and schema, and to one order of questions."""
    book = Ledger(tmp_path / "scans.ledger.jsonl")
    watch.run(tmp_path / "run", book.path)
    with pytest.raises(InputError, match="opened otherwise"):
        Session.open(scans(30, public=False), ONE, ledger=book, checkpoint=Checkpoint(tmp_path / "run"))
    with (
        Session.open(
            scans(30, public=False), ONE, training=PLAN, ledger=book, checkpoint=Checkpoint(tmp_path / "run")
        ) as session,
        pytest.raises(DpsynthError, match="something else"),
    ):
        session.count([fine(session, "label")], [session.rho / 7])
    with pytest.raises(LedgerError, match="does not know"):
        Session.open(
            scans(30, public=False),
            ONE,
            training=PLAN,
            ledger=Ledger(tmp_path / "other.jsonl"),
            checkpoint=Checkpoint(tmp_path / "run"),
        )


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """A folder that holds other files is not taken for a run, and broken files end in a message."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match="holds no run"):
        Checkpoint(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("[]")
    with pytest.raises(FileError):
        Checkpoint(broken).begin({"opened": {}})


def test_equal_questions_have_equal_digests() -> None:
    """Digests depend on columns, maps, tables and noise, and not on caches or the order of keywords."""
    one, two = (Query(("a",), (np.arange(3),)) for _ in range(2))
    assert one.keys  # fills a cache of the first alone
    assert kept.question("counts", ([one], [1.5]), {}) == kept.question("counts", ([two], [1.5]), {})
    others = [
        kept.question("counts", ([one], [1.6]), {}),
        kept.question("counts", ([Query(("b",), (np.arange(3),))], [1.5]), {}),
        kept.question("counts", ([Query(("a",), (np.array([0, 1, 1]),))], [1.5]), {}),
        kept.question("interactions", ([one], [1.5]), {}),
    ]
    assert len({kept.question("counts", ([one], [1.5]), {}), *others}) == 5
    panels = [Panel(teachers, {"label": np.eye(3, dtype=np.float32)}) for teachers in (3, 3, 4)]
    digests = [kept.question("votes", (panel, np.zeros((1, 3)), 1.0), {}) for panel in panels]
    assert digests[0] == digests[1] != digests[2]
    assert kept.question("image_sums", (one, BASIS, 1.0), {}) != kept.question(
        "image_sums", (one, Linear(2 * np.eye(64)[:3], np.zeros(64)), 1.0), {}
    )


def test_a_run_with_a_seed_stays_a_test(tmp_path: Path) -> None:
    """What was begun with a fixed seed is not taken up as if it were private, nor the other way round."""
    for number, seeds in enumerate([(7, None), (None, 7)]):
        folder, book = tmp_path / f"run{number}", Ledger(tmp_path / f"{number}.ledger.jsonl")
        for seed in seeds[:1]:
            with Session.open(
                scans(30, public=False), ONE, ledger=book, seed=seed, checkpoint=Checkpoint(folder)
            ) as session:
                session.count([fine(session, "label")], [session.rho / 2])
        with pytest.raises(InputError, match="with a seed or without"):
            Session.open(scans(30, public=False), ONE, ledger=book, seed=seeds[1], checkpoint=Checkpoint(folder))


def test_a_folder_that_was_edited_does_not_make_a_test_private(tmp_path: Path) -> None:
    """The ledger knows whether a run was a test, whatever the folder says."""
    folder, book = tmp_path / "run", Ledger(tmp_path / "l.ledger.jsonl")
    with Session.open(scans(30, public=False), ONE, ledger=book, seed=7, checkpoint=Checkpoint(folder)) as session:
        session.count([fine(session, "label")], [session.rho / 2])
    facts = json.loads((folder / "run.json").read_text())
    facts["opened"]["test_mode"] = False
    (folder / "run.json").write_text(json.dumps(facts))
    with pytest.raises(LedgerError, match="does not know this run"):
        Session.open(scans(30, public=False), ONE, ledger=book, checkpoint=Checkpoint(folder))
