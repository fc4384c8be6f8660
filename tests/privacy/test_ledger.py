"""The ledger: never an unrecorded spend, never a lost record, refusal rather than a guess."""

import datetime as dt
import errno
import itertools
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.errors import BudgetExceeded, InputError, LedgerError
from dpsynth.privacy.spending import ledger as ledger_module
from dpsynth.privacy.spending import ledger_records as records
from dpsynth.privacy.spending.accounting import rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Event, gaussian_scale
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.training_plan import TrainingPlan

ONE = Budget(1, 1e-6)


def reserve(ledger: Ledger, budget: Budget = ONE, **facts: Any) -> str:
    """Reserve a budget under Gaussian accounting, whatever else is said."""
    accounting = facts.pop("accounting", "gaussian")
    rho = rho_for(budget, accounting, reserved_delta=facts.get("extra_delta", 0.0))
    return ledger.reserve(budget, accounting=accounting, rho=rho, **facts)


def event(rho: float, **facts: Any) -> Event:
    """Return a count that costs rho."""
    return Event("gaussian", "counts", 1.0, gaussian_scale(1.0, rho), **facts)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Return a ledger that does not exist yet."""
    return Ledger(tmp_path / "cohort.csv.ledger.jsonl")


# -- what counts ------------------------------------------------------------------------------------------------------


def test_nothing_is_spent_before_the_first_run(ledger: Ledger) -> None:
    """Reading a ledger that is not there gives zero and makes no file."""
    assert ledger.spent().epsilon == 0
    assert ledger.limit is None
    assert ledger.runs() == []
    assert list(ledger.path.parent.iterdir()) == []


def test_the_first_run_sets_the_limit(ledger: Ledger) -> None:
    """The first budget becomes the limit; a second run past it is refused with exit code 3 and all the numbers."""
    reserve(ledger)
    assert ledger.limit == ONE
    before = ledger.path.read_bytes()
    with pytest.raises(BudgetExceeded) as caught:
        reserve(ledger, Budget(0.5, 1e-6))
    assert caught.value.exit_code == 3
    for words in ("limit is epsilon 1 ", "spent 1,", "asks 0.5 ", "about 0 is left", "raise-limit"):
        assert words in str(caught.value)
    assert ledger.path.read_bytes() == before


def test_an_open_reservation_counts_in_full_and_a_commit_frees_the_rest(ledger: Ledger) -> None:
    """After a commit of a quarter of the price, three quarters can be reserved again, and no more."""
    rho = rho_for(ONE, "gaussian")
    run = reserve(ledger)
    assert ledger.spent().open_runs == 1
    ledger.commit(run, [event(rho / 8)] * 2)
    assert ledger.runs()[0].price("gaussian") == pytest.approx(rho / 4)
    ledger.reserve(ONE, accounting="gaussian", rho=rho * 0.7499)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(ONE, accounting="gaussian", rho=rho * 0.001)


def test_what_is_left_can_be_asked(ledger: Ledger) -> None:
    """The refusal's number for what is left is right: slightly less is granted, slightly more refused."""
    ledger.commit(reserve(ledger), [event(rho_for(Budget(0.6, 1e-6), "gaussian"))])
    with pytest.raises(BudgetExceeded) as caught:
        reserve(ledger)
    left = float(str(caught.value).split("about ")[1].split()[0])
    assert 0.6 < left < 0.85
    with pytest.raises(BudgetExceeded):
        reserve(ledger, Budget(left + 0.001, 1e-6))
    reserve(ledger, Budget(left - 0.001, 1e-6))


def test_runs_of_both_accountings_are_added_in_one_that_holds_for_both(ledger: Ledger) -> None:
    """With a zcdp run in it the whole ledger is converted by zcdp; the total never falls when a run is added."""
    ledger.raise_limit(Budget(10, 1e-6), reason="several runs are planned")
    spent = []
    for accounting in ("gaussian", "gaussian", "zcdp", "gaussian"):
        reserve(ledger, accounting=accounting)
        spent.append(ledger.spent().epsilon)
    assert spent == sorted(spent)
    assert spent[0] == pytest.approx(1)
    assert spent[1] < 2
    assert ledger.spent().runs == 4


def test_a_zcdp_run_alone_spends_its_epsilon(ledger: Ledger) -> None:
    """One zcdp run of epsilon 1 totals 1, selections included."""
    run = reserve(ledger, accounting="zcdp")
    assert ledger.spent().epsilon == pytest.approx(1)
    rho = rho_for(ONE, "zcdp")
    ledger.commit(run, [event(rho / 2), Event("selection", "worst", 1.0, 2 / (8 * rho / 2) ** 0.5)])
    assert ledger.spent().epsilon == pytest.approx(1)


def test_discovery_deltas_add_across_runs(ledger: Ledger) -> None:
    """Two runs that reserve half of delta each leave none for counts, so the second is refused."""
    ledger.raise_limit(Budget(50, 1e-6), reason="only delta should be short")
    reserve(ledger, extra_delta=5e-7)
    with pytest.raises(BudgetExceeded):
        reserve(ledger, extra_delta=5e-7)
    reserve(ledger, extra_delta=1e-7)


def test_a_run_is_committed_once_and_only_if_it_is_known(ledger: Ledger) -> None:
    """An unknown or closed run cannot be committed; the ledger stays as it was."""
    run = reserve(ledger)
    ledger.commit(run, [])
    before = ledger.path.read_bytes()
    for unknown in (run, "0" * 16, ""):
        with pytest.raises(LedgerError):
            ledger.commit(unknown, [])
    assert ledger.path.read_bytes() == before


def test_the_limit_is_raised_only_on_purpose(ledger: Ledger) -> None:
    """A reason is needed and kept; a lower limit is refused; a higher one lets the next run in."""
    reserve(ledger)
    with pytest.raises(InputError, match="reason"):
        ledger.raise_limit(Budget(2, 1e-6), reason=" ")
    with pytest.raises(InputError, match="never lowered"):
        ledger.raise_limit(Budget(0.5, 1e-6), reason="less")
    ledger.raise_limit(Budget(2, 1e-6), reason="the board decided so")
    reserve(ledger)
    assert "the board decided so" in ledger.path.read_text()
    assert 1 < ledger.spent().epsilon < 2


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.3, 0.7, 1.0]), st.floats(0.01, 1), st.booleans(), st.booleans()), max_size=8
    )
)
def test_the_total_never_passes_the_limit(tmp_path_factory: pytest.TempPathFactory, plan: Any) -> None:
    """Any sequence of runs, open or committed in part, stays below the limit; each refusal changes nothing."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "l.jsonl")
    ledger.raise_limit(ONE, reason="set in advance")
    for epsilon, share, commits, zcdp in plan:
        accounting = "zcdp" if zcdp else "gaussian"
        before = ledger.path.read_bytes()
        try:
            run = reserve(ledger, Budget(epsilon, 1e-6), accounting=accounting)
        except BudgetExceeded:
            assert ledger.path.read_bytes() == before
            continue
        if commits:
            ledger.commit(run, [event(share * rho_for(Budget(epsilon, 1e-6), accounting))])
        assert ledger.spent().epsilon <= 1 + 1e-9


# -- the file ---------------------------------------------------------------------------------------------------------


def filled(ledger: Ledger) -> bytes:
    """Write three runs and return the file."""
    ledger.raise_limit(Budget(20, 1e-6), reason="test")
    ledger.commit(reserve(ledger, label="first"), [event(0.001)])
    reserve(ledger, label="second")
    return ledger.path.read_bytes()


def refused(ledger: Ledger) -> str:
    """Check that nothing can be read, reserved or raised, and the file is left alone; return the message."""
    before = ledger.path.read_bytes()
    for act in (ledger.spent, ledger.runs, lambda: reserve(ledger), lambda: ledger.raise_limit(ONE, reason="x")):
        with pytest.raises(LedgerError) as caught:
            act()
        assert caught.value.exit_code == 3
    assert ledger.path.read_bytes() == before
    return str(caught.value)


def test_a_file_that_was_cut_anywhere_is_refused(ledger: Ledger) -> None:
    """Every prefix that ends inside a record is refused; nothing is repaired."""
    whole = filled(ledger)
    for length in range(len(whole)):
        if length == 0 or whole[length - 1 : length] != b"\n":
            ledger.path.write_bytes(whole[:length])
            with pytest.raises(LedgerError):
                ledger.spent()
    assert "cut off" in refused(ledger)


def test_any_changed_byte_is_refused(ledger: Ledger) -> None:
    """Each byte of the file, changed to another printable one, makes it untrusted."""
    whole = filled(ledger)
    for i in range(len(whole)):
        changed = bytearray(whole)
        changed[i] = ord("7") if whole[i] != ord("7") else ord("3")
        ledger.path.write_bytes(changed)
        with pytest.raises(LedgerError):
            ledger.spent()


def test_a_record_that_was_removed_moved_or_doubled_is_refused(ledger: Ledger) -> None:
    """Records are chained: the middle cannot be cut out, swapped or repeated."""
    lines = filled(ledger).splitlines(keepends=True)
    for drop in range(len(lines) - 1):
        ledger.path.write_bytes(b"".join(lines[:drop] + lines[drop + 1 :]))
        refused(ledger)
    for order in itertools.permutations(range(len(lines))):
        if order != tuple(range(len(lines))):
            ledger.path.write_bytes(b"".join(lines[i] for i in order))
            with pytest.raises(LedgerError):
                ledger.spent()
    ledger.path.write_bytes(b"".join([*lines, lines[-1]]))
    refused(ledger)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"hello\n", b"{}\n", b"[]\n", b"null\n", b"\xff\xfe\n", b"\x00" * 64, b"[" * 100_000 + b"\n"],
)
def test_a_file_that_is_no_ledger_is_refused(ledger: Ledger, content: bytes) -> None:
    """Empty, binary, deeply nested and foreign files are refused and left alone."""
    ledger.path.write_bytes(content)
    assert ledger.path.name in refused(ledger)


def forged(ledger: Ledger, *changes: dict[str, Any]) -> None:
    """Write a ledger of records with right checksums, so that only their sense is wrong."""
    ledger.path.write_text("".join(line + "\n" for line in records.chain(changes, "")))


LIMIT = {"state": "limit", "run": "", "time": "", "epsilon": 1.0, "delta": 1e-6, "reason": "r"}
RUN = {
    "state": "reserve",
    "run": "a",
    "time": "",
    "label": "",
    "epsilon": 1.0,
    "delta": 1e-6,
    "accounting": "gaussian",
    "rho": 0.01,
    "extra_delta": 0.0,
    "unit": "patient",
    "private": True,
}
COMMIT = {"state": "commit", "run": "a", "time": "", "events": []}


@pytest.mark.parametrize(
    "chain",
    [
        [RUN],
        [LIMIT, COMMIT],
        [LIMIT, RUN, RUN],
        [LIMIT, RUN, COMMIT, COMMIT],
        [{**LIMIT, "epsilon": -1}],
        [LIMIT, {**RUN, "rho": -1.0}],
        [LIMIT, {**RUN, "rho": "lots"}],
        [LIMIT, {**RUN, "accounting": "trust me"}],
        [LIMIT, {**RUN, "extra_delta": -1e-7}],
        [LIMIT, {**RUN, "state": "forget"}],
        [LIMIT, {k: v for k, v in RUN.items() if k != "rho"}],
        [LIMIT, RUN, {**COMMIT, "events": [{}]}],
        [LIMIT, RUN, {**COMMIT, "events": "none"}],
    ],
)
def test_records_that_make_no_sense_are_refused(ledger: Ledger, chain: list[dict[str, Any]]) -> None:
    """A well-chained file whose records are out of order or out of range is refused too."""
    forged(ledger, *chain)
    assert ledger.path.name in refused(ledger)


def test_a_newer_version_is_refused_with_that_reason(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of a later version says to upgrade."""
    monkeypatch.setattr(records, "VERSION", records.VERSION + 1)
    filled(ledger)
    monkeypatch.undo()
    assert "newer dpsynth" in refused(ledger)


def test_a_ledger_is_a_regular_file(tmp_path: Path) -> None:
    """A folder or a device such as /dev/null cannot be a ledger, because what it is told is lost."""
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(LedgerError):
            Ledger(path).spent()
        with pytest.raises(LedgerError):
            reserve(Ledger(path))


def test_two_names_of_one_file_are_one_ledger(tmp_path: Path) -> None:
    """Through a link to the data or to the ledger the same budget is spent, and the link stays a link."""
    data = tmp_path / "cohort.csv"
    data.touch()
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "same.csv"
    link.symlink_to(data)
    assert Ledger.beside(link).path == Ledger.beside(data).path
    reserve(Ledger.beside(data))
    alias = tmp_path / "alias.jsonl"
    alias.symlink_to(Ledger.beside(data).path)
    with pytest.raises(BudgetExceeded):
        reserve(Ledger(alias))
    assert alias.is_symlink()


def test_times_are_information_only(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps back years between records changes nothing."""
    filled(ledger)
    spent = ledger.spent()
    monkeypatch.setattr(records, "now", lambda: dt.datetime(1970, 1, 1, tzinfo=dt.UTC).isoformat())
    monkeypatch.setattr(ledger_module, "now", records.now)
    ledger.commit(ledger.runs()[-1].run, [event(0.001)])
    reserve(ledger)
    assert ledger.spent().runs == spent.runs + 1


def test_the_file_keeps_its_mode(ledger: Ledger) -> None:
    """A ledger that was made writable for a group stays so."""
    reserve(ledger, Budget(0.5, 1e-6))
    ledger.path.chmod(0o664)
    ledger.raise_limit(Budget(3, 1e-6), reason="x")
    assert ledger.path.stat().st_mode & 0o777 == 0o664


# -- a disk that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_failing_disk_refuses_and_keeps_the_old_file(
    ledger: Ledger, call: str, fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or broken disk at any step leaves the old ledger whole and no rubbish, and nothing is granted."""
    before = filled(ledger)
    real = getattr(os, call)

    def broken(*args: Any, **kwargs: Any) -> Any:
        if call != "open" or str(args[0]).endswith(".tmp"):
            raise OSError(fault, os.strerror(fault))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(LedgerError, match="nothing may be spent"):
        reserve(ledger)
    monkeypatch.undo()
    assert ledger.path.read_bytes() == before
    assert not list(ledger.path.parent.glob("*.tmp"))
    reserve(ledger)


def test_a_short_write_is_continued(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes a few bytes at a time still gets whole records."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data)[:7]))
    filled(ledger)
    assert ledger.spent().runs == 2


def test_a_file_size_limit_refuses_and_keeps_the_old_file(ledger: Ledger) -> None:
    """With RLIMIT_FSIZE just above the file's size, in a process of its own, the ledger refuses and stays whole."""
    before = filled(ledger)
    program = (
        "import signal, sys; from dpsynth.privacy.spending.ledger import Ledger\n"
        "from dpsynth.privacy.spending.budget import Budget\n"
        "from dpsynth.errors import LedgerError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: Ledger(sys.argv[1]).reserve(Budget(1, 1e-6), accounting='gaussian', rho=0.01)\n"
        "except LedgerError: sys.exit(33)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ledger.path)],
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20,) * 2),
    )
    assert done.returncode == 33
    assert ledger.path.read_bytes() == before
    assert not list(ledger.path.parent.glob("*.tmp"))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A ledger in a folder that does not exist is a misspelt one: nothing is granted and no folder is made."""
    with pytest.raises(LedgerError, match="folder does not exist"):
        reserve(Ledger(tmp_path / "missing" / "l.jsonl"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(ledger: Ledger) -> None:
    """Without write access to the folder nothing is granted; reading still works."""
    filled(ledger)
    ledger.path.parent.chmod(0o555)
    try:
        assert ledger.spent().runs == 2
        with pytest.raises(LedgerError, match="cannot be written"):
            reserve(ledger)
    finally:
        ledger.path.parent.chmod(0o755)


def test_a_folder_or_file_without_access_is_refused(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, for whoever the tests run as: no lock can be made, or the file is read-only."""
    before = filled(ledger)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
    with pytest.raises(LedgerError, match="read-only"):
        reserve(ledger)
    monkeypatch.undo()

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("filelock.FileLock.acquire", forbidden)
    with pytest.raises(LedgerError, match="cannot be written"):
        reserve(ledger)
    assert ledger.path.read_bytes() == before


def test_rubbish_of_a_killed_process_is_in_nobodys_way(ledger: Ledger) -> None:
    """A half-written temporary file from a kill is ignored when reading and replaced when writing."""
    filled(ledger)
    Path(f"{ledger.path}.tmp").write_text('{"half": ')
    assert ledger.spent().runs == 2
    reserve(ledger)
    assert ledger.spent().runs == 3


def test_a_lock_that_is_held_too_long_is_reported(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another holds the lock nothing is granted, and the message says to wait."""
    from filelock import FileLock

    monkeypatch.setattr("dpsynth.privacy.spending.ledger_file.LOCK_SECONDS", 0.1)
    with FileLock(f"{ledger.path}.lock"), pytest.raises(LedgerError, match="another process"):
        reserve(ledger)


def test_threads_that_race_share_one_budget(ledger: Ledger) -> None:
    """Of twelve threads that each ask half of epsilon 1, as many win as fit, and all wins are in the file."""
    outcomes: list[bool] = []

    def ask() -> None:
        try:
            ledger.reserve(Budget(0.5, 1e-6), accounting="gaussian", rho=rho_for(ONE, "gaussian") / 2.5)
            outcomes.append(True)
        except BudgetExceeded:
            outcomes.append(False)

    ledger.raise_limit(ONE, reason="test")
    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcomes) == 2
    assert ledger.spent().runs == 2


def test_the_file_is_json_lines_that_people_can_read(ledger: Ledger) -> None:
    """Each line is a JSON object with version, state, run, time and checksum, and no path, user or host."""
    for line in filled(ledger).decode().splitlines():
        assert {"v", "state", "run", "time", "sum"} <= set(json.loads(line))
        assert str(ledger.path.parent) not in line


def test_runs_of_another_unit_are_refused(ledger: Ledger) -> None:
    """Epsilons for rows and for patients are not added: a run of the other unit is refused, and nothing is written."""
    ledger.raise_limit(Budget(9, 1e-6), reason="test")
    reserve(ledger, unit="row")
    before = ledger.path.read_bytes()
    with pytest.raises(LedgerError, match="took each row for what is protected, this one each patient"):
        reserve(ledger, unit="patient")
    assert ledger.path.read_bytes() == before
    reserve(ledger, unit="row")


def test_runs_of_another_patient_column_are_refused(ledger: Ledger) -> None:
    """A stay is not a person: both columns are named, with what to do, and nothing is written."""
    ledger.raise_limit(Budget(9, 1e-6), reason="test")
    reserve(ledger, patient_column="stay")
    before = ledger.path.read_bytes()
    with pytest.raises(LedgerError, match=r"column 'stay'.*column 'pid'.*no total.*`patient: stay`"):
        reserve(ledger, patient_column="pid")
    with pytest.raises(LedgerError, match=r"each patient of column 'stay'.*this one each row"):
        reserve(ledger, unit="row")
    assert ledger.path.read_bytes() == before
    reserve(ledger, patient_column="stay")
    assert [run.patient_column for run in ledger.runs()] == ["stay", "stay"]


OLD = (Path(__file__).parent / "ledger_of_version_2.jsonl").read_bytes()
"""Two runs on patients, written by a version that did not note the patient column: one committed, one left open."""


def test_a_ledger_of_an_earlier_version_counts(ledger: Ledger) -> None:
    """It is read and added up; runs go on in it, and the total says how many runs name no column."""
    ledger.path.write_bytes(OLD)
    spent = ledger.spent()
    assert (spent.runs, spent.open_runs, spent.unnamed) == (2, 1, 2)
    assert 0.5 < spent.epsilon < 1
    with pytest.raises(BudgetExceeded):
        reserve(ledger, patient_column="pid")
    reserve(ledger, Budget(0.2, 1e-6), patient_column="pid")
    assert ledger.path.read_bytes().startswith(OLD)
    assert (ledger.spent().runs, ledger.spent().unnamed) == (3, 2)
    assert ledger.spent().epsilon > spent.epsilon
    with pytest.raises(LedgerError, match="column 'pid'"):
        reserve(ledger, Budget(0.1, 1e-6), patient_column="stay")


def test_with_a_training_the_sum_of_the_runs_is_said_beside_the_total(ledger: Ledger) -> None:
    """The sum holds however runs were chosen: it is that of epsilons and deltas, and never below the total."""
    ledger.raise_limit(Budget(9, 1e-6), reason="test")
    reserve(ledger)
    assert ledger.spent().added is None
    reserve(ledger)
    assert ledger.spent().added is None
    plan = TrainingPlan.within(ONE, sampling_rate=0.1, steps=20)
    ledger.reserve(ONE, accounting="gaussian", rho=0.0, training=plan.event)
    spent = ledger.spent()
    assert spent.added == (pytest.approx(3 * ONE.epsilon, rel=1e-3), pytest.approx(3 * ONE.delta))
    assert spent.added[0] > spent.epsilon


def test_with_a_training_the_epsilons_do_not_pass_the_limit(ledger: Ledger) -> None:
    """Two runs of 1 fit a limit of 1.5 by their prices; with a training among them they do not, in either order."""
    ledger.raise_limit(Budget(1.5, 1e-6), reason="test")
    reserve(ledger)
    plan = TrainingPlan.within(ONE, sampling_rate=0.1, steps=20)
    before = ledger.path.read_bytes()
    with pytest.raises(BudgetExceeded, match=r"about 0\.5 is left"):
        ledger.reserve(ONE, accounting="gaussian", rho=0.0, training=plan.event)
    assert ledger.path.read_bytes() == before
    assert reserve(ledger)
    other = Ledger(ledger.path.with_name("other.jsonl"))
    other.raise_limit(Budget(1.5, 1e-6), reason="test")
    other.reserve(ONE, accounting="gaussian", rho=0.0, training=plan.event)
    with pytest.raises(BudgetExceeded):
        reserve(other)
    assert reserve(other, Budget(0.5, 1e-6))


def test_a_run_that_asked_nothing_is_not_added(ledger: Ledger) -> None:
    """A training that was reserved and never begun leaves the limit to others."""
    plan = TrainingPlan.within(ONE, sampling_rate=0.1, steps=20)
    ledger.commit(ledger.reserve(ONE, accounting="gaussian", rho=0.0, training=plan.event), [])
    assert ledger.reserve(ONE, accounting="gaussian", rho=0.0, training=plan.event)
    assert ledger.spent().added is None


def test_an_exhausted_delta_is_named(ledger: Ledger) -> None:
    """Where epsilon would do and delta does not, the refusal says so, with what was spent, asked and left."""
    ledger.raise_limit(Budget(50, 1e-6), reason="only delta should be short")
    reserve(ledger, extra_delta=4e-7)
    spent = ledger.spent()
    assert spent.delta_spent == pytest.approx(4e-7)
    assert spent.ends_first(Budget(50, 1e-6)) == "delta"
    with pytest.raises(BudgetExceeded) as caught:
        reserve(ledger, extra_delta=6e-7)
    told = str(caught.value)
    for words in (
        "delta is exhausted",
        "limit is delta 1e-06",
        "spent 4e-07",
        "asks 6e-07",
        "6e-07 is left",
        "--delta",
    ):
        assert words in told
    assert "epsilon 50 at" not in told
    reserve(ledger, extra_delta=5e-7)


def test_an_exhausted_epsilon_is_not_called_delta(ledger: Ledger) -> None:
    """Where epsilon is what is missing, with or without discovery, the refusal is about epsilon."""
    ledger.raise_limit(ONE, reason="test")
    reserve(ledger, Budget(0.6, 1e-6), extra_delta=1e-7)
    assert ledger.spent().ends_first(ONE) == "epsilon"
    for extra in (0.0, 1e-7):
        with pytest.raises(BudgetExceeded, match=r"limit is epsilon 1 at delta"):
            reserve(ledger, extra_delta=extra)
