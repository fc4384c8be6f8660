"""A ledger that was named once is found by every later run on the data, or the run is refused."""

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from dpsynth.cohort import Cohort
from dpsynth.errors import BudgetExceeded, InputError, LedgerError
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending import ledger_pointer
from dpsynth.privacy.spending.accounting import rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.ledger_place import ledger_of

from .helpers import ward_frame, ward_schema

LIMIT, SMALL = Budget(1, 1e-6), Budget(0.3, 1e-6)
RHO = rho_for(SMALL, "gaussian")


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own files in a folder of the test."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a file of patients in a folder of its own."""
    (tmp_path / "data").mkdir()
    ward_frame(60).to_csv(tmp_path / "data" / "ward.csv", index=False)
    return tmp_path / "data" / "ward.csv"


def cohort(data: Path) -> Cohort:
    """Read the patients."""
    return Cohort.read(data, ward_schema())


def spend(data: Path, named: Any = None, budget: Budget = SMALL) -> int:
    """Reserve a run on the data through the ledger that counts, and return how many runs it then holds."""
    book = ledger_of(cohort(data), named)
    assert book is not None
    book.reserve(budget, accounting="gaussian", rho=rho_for(budget, "gaussian"), patient_column="id")
    return len(book.runs())


def test_three_names_give_one_total(data: Path, tmp_path: Path) -> None:
    """Named first, by a link, by the place beside the data, and not at all: each run finds the runs before it."""
    book = tmp_path / "books" / "ours.jsonl"
    book.parent.mkdir()
    Ledger(book).raise_limit(LIMIT, reason="several runs")
    (tmp_path / "link.jsonl").symlink_to(book)
    (tmp_path / "other.csv").symlink_to(data)
    assert spend(data, book) == 1
    assert spend(data) == 2
    assert spend(tmp_path / "other.csv", tmp_path / "link.jsonl") == 3
    assert spend(data, Ledger.beside(data).path) == 4
    assert Ledger.beside(data).spent() == Ledger(book).spent()
    with pytest.raises(InputError, match=r"leads to .*ours.jsonl.*would forget it"):
        spend(data, tmp_path / "theirs.jsonl")
    assert not (tmp_path / "theirs.jsonl").exists()
    with pytest.raises(BudgetExceeded):
        spend(data, budget=Budget(1, 1e-6))


def test_a_session_leaves_the_pointer_before_it_reads(data: Path, tmp_path: Path) -> None:
    """When the cohort is taken in, the place beside the data leads to the ledger that was named."""
    book = Ledger(tmp_path / "ours.jsonl")
    with Session.open(cohort(data), SMALL, ledger=book) as session:
        assert Ledger.beside(data).spent().open_runs == 1
        told = json.dumps(session.statement())
    assert str(tmp_path) not in told
    assert "ours.jsonl" not in told
    assert session.statement()["earlier_releases"]["runs"] == 0
    with Session.open(cohort(data), Budget(0.1, 1e-6), ledger=tmp_path / "ours.jsonl") as session:
        assert session.statement()["earlier_releases"]["runs"] == 1


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_images_have_a_pointer_too(tmp_path: Path, kind: str) -> None:
    """The place of an archive or a folder of images leads to the ledger, from each of its tables."""
    source = tmp_path / ("scans.npz" if kind == "npz" else "scans")
    if kind == "npz":
        source.write_bytes(b"")
        names = [source]
    else:
        source.mkdir()
        (source / "index.csv").write_text("id,image\na,a.png\n")
        (source / "patients.csv").write_text("id\na\n")
        names = [source, source / "index.csv", source / "patients.csv"]
    from dpsynth.privacy.spending.ledger_place import dataset_of

    book = Ledger(tmp_path / "ours.jsonl")
    place = Ledger.beside(dataset_of(source))
    book.counting(place).reserve(SMALL, accounting="gaussian", rho=RHO)
    for name in names:
        assert Ledger.beside(dataset_of(name)).runs() == book.runs()
        assert Ledger.beside(dataset_of(name)).name == "ours.jsonl"


def test_a_ledger_that_is_gone_is_missed(data: Path, tmp_path: Path) -> None:
    """Deleted, or another in its place: nothing is shown or spent; back, or named where it was moved to, it counts."""
    book = tmp_path / "ours.jsonl"
    spend(data, book)
    kept = book.read_bytes()
    book.rename(tmp_path / "moved.jsonl")
    for act in (lambda: spend(data), Ledger.beside(data).spent, lambda: spend(data, book)):
        with pytest.raises(LedgerError, match=r"kept in .*ours.jsonl.*not there.*backup"):
            act()
    Ledger(book).raise_limit(LIMIT, reason="a fresh one")
    with pytest.raises(LedgerError, match="is another one"):
        spend(data, book)
    book.unlink()
    Ledger(tmp_path / "moved.jsonl").raise_limit(LIMIT, reason="more")
    assert spend(data, tmp_path / "moved.jsonl") == 2
    assert spend(data) == 3
    assert (tmp_path / "moved.jsonl").read_bytes().startswith(kept)


def test_a_folder_that_is_moved_or_copied_keeps_its_ledger(data: Path, tmp_path: Path) -> None:
    """Moved, it takes its ledger along; copied, both go on in the first until they part, which is refused."""
    Ledger(data.parent / "ours.jsonl").raise_limit(LIMIT, reason="several runs")
    spend(data, data.parent / "ours.jsonl")
    data.parent.rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "ward.csv"
    assert spend(moved) == 2
    shutil.copytree(moved.parent, tmp_path / "copy")
    copied = tmp_path / "copy" / "ward.csv"
    assert spend(copied, tmp_path / "moved" / "ours.jsonl") == 3
    assert Ledger.beside(copied).spent() == Ledger.beside(moved).spent()
    Ledger(tmp_path / "copy" / "ours.jsonl").reserve(SMALL, accounting="gaussian", rho=RHO, patient_column="id")
    with pytest.raises(LedgerError, match="different ways"):
        Ledger.beside(copied).spent()


def test_a_kill_before_the_pointer_counts_in_full(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between ledger and pointer, the reservation stays and counts, and the data was not read."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    Ledger(tmp_path / "ours.jsonl").raise_limit(LIMIT, reason="several runs")
    with monkeypatch.context() as patch:
        patch.setattr(ledger_pointer, "write", killed)
        patch.setattr("dpsynth.privacy.session.PrivateAnswers", lambda *_: pytest.fail("the data was read"))
        with pytest.raises(KeyboardInterrupt):
            Session.open(cohort(data), SMALL, ledger=tmp_path / "ours.jsonl")
    assert Ledger(tmp_path / "ours.jsonl").spent().open_runs == 1
    assert not Ledger.beside(data).exists()
    assert spend(data, tmp_path / "ours.jsonl") == 2
    assert spend(data) == 3


def test_a_pointer_that_cannot_be_written_refuses_and_gives_back(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the pointer: nothing may be spent, and the reservation is closed with nothing spent."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger_pointer, "write", full)
    with pytest.raises(LedgerError, match="nothing may be spent"):
        spend(data, tmp_path / "ours.jsonl")
    assert Ledger(tmp_path / "ours.jsonl").spent().epsilon == 0


def test_in_a_folder_that_may_not_be_written_the_user_keeps_the_pointer(
    data: Path, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written beside the data, and later runs of this user find the ledger all the same."""
    real = os.access
    sealed = data.parent
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != sealed and real(path, mode))
    Ledger(tmp_path / "ours.jsonl").raise_limit(LIMIT, reason="several runs")
    assert spend(data, tmp_path / "ours.jsonl") == 1
    assert [path.name for path in sealed.iterdir()] == ["ward.csv"]
    assert spend(data) == 2
    with pytest.raises(InputError, match="would forget it"):
        spend(data, tmp_path / "theirs.jsonl")
    (kept,) = (state / "dpsynth" / "ledgers").glob("*.jsonl")
    assert "ward" not in kept.name
    assert kept.parent.stat().st_mode & 0o077 == 0


def test_a_pointer_that_was_changed_is_refused(data: Path, tmp_path: Path) -> None:
    """Cut, edited or made up, a pointer is no ledger and leads nowhere."""
    spend(data, tmp_path / "ours.jsonl")
    place = Ledger.beside(data).path
    text = place.read_text()
    other = json.dumps({**json.loads(text), "ledger": "/dev/null"}, sort_keys=True) + "\n"
    for changed in (text[:-5], text.replace("ours.jsonl", "mine.jsonl"), other, text + text, "{}\n", ""):
        place.write_text(changed)
        if changed == text + text:
            continue
        for act in (lambda: spend(data), Ledger.beside(data).spent, lambda: spend(data, tmp_path / "new.jsonl")):
            with pytest.raises((LedgerError, InputError)):
                act()
    assert not (tmp_path / "new.jsonl").exists()


def test_of_two_first_runs_at_once_one_names_the_ledger(data: Path, tmp_path: Path) -> None:
    """Eight runs that name eight ledgers at the same moment: one is granted, and the place leads to its ledger."""
    people, ready, granted = cohort(data), threading.Barrier(8), []

    def run(name: str) -> None:
        book = ledger_of(people, tmp_path / name)
        assert book is not None
        ready.wait()
        try:
            book.reserve(SMALL, accounting="gaussian", rho=RHO)
            granted.append(name)
        except InputError:
            pass

    threads = [threading.Thread(target=run, args=(f"book{number}.jsonl",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 1
    assert Ledger.beside(data).name == granted[0]
    assert [path.name for path in tmp_path.glob("book*.jsonl")] == granted


def test_a_run_that_waited_goes_where_the_place_now_leads(data: Path, tmp_path: Path) -> None:
    """A run that named nothing waits for a first run that named a ledger, and is then written into that one."""
    default, named = ledger_of(cohort(data)), ledger_of(cohort(data), tmp_path / "ours.jsonl")
    assert default is not None
    assert named is not None
    Ledger(tmp_path / "ours.jsonl").raise_limit(LIMIT, reason="several runs")
    waiting = threading.Thread(
        target=lambda: default.reserve(SMALL, accounting="gaussian", rho=RHO, patient_column="id")
    )
    with named._place_held() as home:
        waiting.start()
        waiting.join(0.2)
        Ledger(tmp_path / "ours.jsonl").reserve(SMALL, accounting="gaussian", rho=RHO, patient_column="id")
        named._point(home)
    waiting.join()
    assert len(Ledger(tmp_path / "ours.jsonl").runs()) == 2
    assert ledger_pointer.read(Ledger.beside(data).path) is not None


def test_a_frame_has_the_ledger_that_is_named_and_no_place(tmp_path: Path) -> None:
    """Where there is no file, nothing but the ledger is written."""
    people = Cohort.from_pandas(ward_frame(60), ward_schema())
    with Session.open(people, SMALL, ledger=tmp_path / "ours.jsonl"):
        pass
    assert {path.name for path in tmp_path.iterdir()} <= {"ours.jsonl", "ours.jsonl.lock"}


def test_a_run_of_an_earlier_version_that_goes_on_leaves_a_pointer(data: Path, tmp_path: Path) -> None:
    """Runs that were begun in a named ledger without a pointer leave one when they are taken up; nothing else does."""
    book = ledger_of(cohort(data), tmp_path / "ours.jsonl")
    assert book is not None
    book.take_up()
    assert not Ledger.beside(data).exists()
    Ledger(tmp_path / "ours.jsonl").reserve(SMALL, accounting="gaussian", rho=RHO)
    book.take_up()
    assert Ledger.beside(data).runs() == Ledger(tmp_path / "ours.jsonl").runs()


def test_a_statement_says_that_earlier_runs_name_no_column(data: Path) -> None:
    """On a ledger of an earlier version the total is stated with the condition under which it holds."""
    Ledger.beside(data).path.write_bytes((Path(__file__).parent / "ledger_of_version_2.jsonl").read_bytes())
    with Session.open(cohort(data), Budget(0.1, 1e-6)) as session:
        earlier = session.statement()["earlier_releases"]
    assert earlier["runs"] == 2
    assert "2 of them recorded before the patient column was noted" in earlier["note"]
    assert [run.patient_column for run in Ledger.beside(data).runs()] == [None, None, "id"]


def test_statement_card_and_page_name_the_patient_column(data: Path, tmp_path: Path) -> None:
    """Whoever reads a release learns by which column patients were told apart."""
    import dpsynth

    model = dpsynth.fit(cohort(data), "independent", epsilon=0.5, ledger=tmp_path / "ours.jsonl")
    dpsynth.release(model, tmp_path / "release", rows=20)
    told = json.loads((tmp_path / "release" / "privacy.json").read_text())
    assert (told["unit"], told["patient_column"]) == ("patient", "id")
    assert "one value of column 'id'" in (tmp_path / "release" / "README.md").read_text()
    page = dpsynth.evaluation.report.privacy.privacy(told)
    assert ("unit of protection", "patient (one value of column 'id')") in [tuple(row) for row in page.facts.rows]
    names = [path.name for path in (tmp_path / "release").rglob("*")]
    assert not any("jsonl" in name for name in names)
