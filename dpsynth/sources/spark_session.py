"""A session of Spark: how one is begun, what of its faults may be told, and jobs that end with the run.

Spark writes what goes wrong to its logs, and the text may hold a value; so its log is off while a run of ours asks it,
and a fault is told by the name of its kind.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpsynth.errors import DataError, DpsynthError, InputError
from dpsynth.sources.silence import quiet

__all__ = ["asking", "check_classic", "is_frame", "is_session", "session_at"]

EXTRA = "install it with pip install 'dpsynth[spark]'."
SETTINGS = {
    "spark.app.name": "dpsynth",
    "spark.io.encryption.enabled": "true",  # rows lie on the disks of the cluster while they are moved
    "spark.executor.syncLogLevel.enabled": "true",
    "spark.log.level": "OFF",
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",  # it shows whoever asks how many rows there are
    "spark.ui.showConsoleProgress": "false",
}
"""Of a session that we begin, where the cluster's own ``spark-defaults.conf`` does not say otherwise."""
GROUP = "spark.jobGroup.id"
KNOWN = {
    "TABLE_OR_VIEW_NOT_FOUND": "there is no such table or view; correct its name (catalogue.database.table).",
    "PATH_NOT_FOUND": "there is no such path; correct it.",
    "PYTHON_VERSION_MISMATCH": "the executors run another version of Python; name the right one in PYSPARK_PYTHON.",
}


def is_frame(thing: object) -> bool:
    """Return whether a thing is a Spark DataFrame; imports nothing."""
    return any(
        kind.__module__.startswith("pyspark.sql") and kind.__name__ == "DataFrame" for kind in type(thing).__mro__
    )


def is_session(thing: object) -> bool:
    """Return whether a thing is a Spark session; imports nothing."""
    return any(
        kind.__module__.startswith("pyspark.sql") and kind.__name__ == "SparkSession" for kind in type(thing).__mro__
    )


def session_at(master: str) -> Any:
    """Return the session of Spark on a master, a new one where none is open.

    Parameters
    ----------
    master
        ``spark://host:7077``, ``yarn``, ``k8s://…``, ``local[4]``; everything else is said by Spark's own files.

    Raises
    ------
    InputError
        If PySpark or Java is missing, the master is one of Spark Connect or does not answer, or the session that is
        open in this process is on another.
    """
    if master.startswith("sc://") or os.environ.get("SPARK_REMOTE"):
        raise _connect()
    _check_installed()
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    open_context = SparkContext._active_spark_context  # noqa: SLF001  (asking by a method begins one)
    if open_context is not None:
        if open_context.master != master:
            raise InputError(
                f"spark: found {master!r}, and the session that is open in this process is on "
                f"{open_context.master!r}; name that one, or stop it first."
            )
        return SparkSession.builder.getOrCreate()
    builder, told = SparkSession.builder.master(master), _defaults()
    for name in SETTINGS.keys() - told:
        builder = builder.config(name, SETTINGS[name])
    try:
        return builder.getOrCreate()
    except Exception as error:
        kind = _kind(error)
    raise InputError(
        f"spark: no session can be begun on {master!r} ({kind}). Expected local[N], spark://host:port, yarn or "
        "k8s://…, a cluster that answers there, and Java 17 or newer."
    )


def _connect() -> InputError:
    return InputError(
        "spark: Spark Connect (sc://, SPARK_REMOTE) has no broadcasts and no sums on the executors that dpsynth needs; "
        "name the cluster itself (spark://host:7077, yarn, k8s://…)."
    )


def check_classic(session: Any) -> None:
    """Refuse a session of Spark Connect."""
    if type(session).__module__.startswith("pyspark.sql.connect"):
        raise _connect()


def _check_installed() -> None:
    try:
        import pyspark
    except ImportError:
        raise InputError(f"spark: needs the package 'pyspark', 4 or newer; {EXTRA}") from None
    if int(pyspark.__version__.partition(".")[0]) < 4:
        raise InputError(f"spark: found pyspark {pyspark.__version__}, expected 4 or newer; {EXTRA}")
    home = os.environ.get("JAVA_HOME")
    if not (home and (Path(home) / "bin" / "java").is_file()) and shutil.which("java") is None:
        raise InputError(
            "spark: needs Java 17 or newer, and none was found on the path or in JAVA_HOME. On Debian: apt-get install "
            "default-jre-headless."
        )


def _defaults() -> set[str]:
    """Return the names of settings that the cluster's own file has."""
    folder = os.environ.get("SPARK_CONF_DIR") or os.path.join(os.environ.get("SPARK_HOME", ""), "conf")  # noqa: PTH118
    try:
        lines = (Path(folder) / "spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {line.replace("=", " ").split()[0] for line in lines if line.strip() and not line.startswith("#")}


@contextlib.contextmanager
def asking(session: Any, label: str) -> Iterator[None]:
    """Ask Spark something: its log is off meanwhile, a fault is told by its kind, and Ctrl-C ends the jobs.

    Parameters
    ----------
    session
        The session.
    label
        What is asked, for messages.

    Raises
    ------
    DataError, InputError
        In place of what Spark says of a fault, which may hold a value.
    """
    context = session.sparkContext
    before, group = context.getLocalProperty(GROUP), f"dpsynth-{uuid.uuid4()}"
    level = _level(context)
    failed = ""
    try:
        context.setLocalProperty(GROUP, group)
        context.setLogLevel("OFF")
        with quiet():  # PySpark logs what Java said, too
            yield
    except DpsynthError:
        raise
    except BaseException as error:
        with contextlib.suppress(Exception):
            context.cancelJobGroup(group)
        if not isinstance(error, Exception):
            raise
        failed = _told(error)
    finally:
        with contextlib.suppress(Exception):
            context.setLocalProperty(GROUP, before)
            context.setLogLevel(level)
    if failed:
        raise DataError(f"{label}: {failed}")


def _level(context: Any) -> str:
    """Return the level of Spark's log."""
    try:
        return str(context._jvm.org.apache.logging.log4j.LogManager.getRootLogger().getLevel().toString())  # noqa: SLF001
    except Exception:  # another logger; Spark's own default
        return "WARN"


def _told(error: Exception) -> str:
    """Return what may be told of a fault of Spark: the name of its kind, and what to do about those that are known."""
    text, kind = str(error), _kind(error)
    if "No module named 'dpsynth" in text:
        return "dpsynth is not installed on the executors; install it there, or send it along (see the docs on Spark)."
    known = next((words for name, words in KNOWN.items() if name in kind or f"[{name}" in text), None)
    return known or (
        f"Spark could not read it ({kind}); details are withheld because they could hold a patient's values. Ask for "
        "the table there; if executors were lost, look whether they have memory enough."
    )


def _kind(error: Exception) -> str:
    """Return the name of an error's kind: Spark's condition, the class of Java's exception, or Python's."""
    with contextlib.suppress(Exception):
        condition = error.getCondition()  # type: ignore[attr-defined]
        if condition:
            return str(condition)
    with contextlib.suppress(Exception):
        return str(error.java_exception.getClass().getSimpleName())  # type: ignore[attr-defined]
    return type(error).__name__
