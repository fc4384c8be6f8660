"""A session of Spark for tests, and what is watched while it works."""

import gc
import importlib.util
import os
import pickle
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from engines import missing

SETTINGS = {
    "spark.io.encryption.enabled": "true",
    "spark.log.level": "OFF",
    "spark.executor.syncLogLevel.enabled": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "1g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.shuffle.io.maxRetries": "1",
    "spark.shuffle.io.retryWait": "100ms",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.session.timeZone": "America/New_York",  # no zone of a session moves a value
}

MARKS = [
    pytest.mark.xdist_group("spark"),  # one session of Spark at a time, in one process of the tests
    pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning"),  # py4j leaves them open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def is_installed() -> bool:
    """Return whether there is PySpark."""
    return importlib.util.find_spec("pyspark") is not None


@contextmanager
def session(master: str, folder: Path) -> Iterator[Any]:
    """Give a session that keeps all that it writes in a folder."""
    if not is_installed():
        missing("pyspark is not installed (the extra 'spark')")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        missing("Java is not installed (on Debian: default-jre-headless)")
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYSPARK_DRIVER_PYTHON", sys.executable)
        patch.setenv("SPARK_HOME", str(_home(folder)))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        builder = SparkSession.builder.master(master)
        for name, value in SETTINGS.items():
            builder = builder.config(name, value)
        (folder / "events").mkdir()
        builder = builder.config("spark.eventLog.compress", "false").config(
            "spark.eventLog.dir", str(folder / "events")
        )
        builder = builder.config("spark.eventLog.enabled", "true")
        builder = builder.config("spark.local.dir", str(folder / "local"))
        spark = builder.config("spark.sql.warehouse.dir", str(folder / "warehouse")).getOrCreate()
        assert spark.sparkContext.master == master
        try:
            yield spark
        finally:
            spark.stop()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()


def _home(folder: Path) -> Path:
    """Return a home of Spark whose programs are those of the package, and whose folder for workers is the test's."""
    import pyspark

    home = folder / "home"
    home.mkdir(parents=True)
    for name in ("bin", "jars"):
        (home / name).symlink_to(Path(pyspark.__file__).parent / name)
    return home


@contextmanager
def watched() -> Iterator[list[bytes]]:
    """Note all that comes to the driver from the executors."""
    from pyspark.core.rdd import RDD
    from pyspark.sql.classic.dataframe import DataFrame

    came: list[bytes] = []

    def noting(own: Any) -> Any:
        def noted(*args: Any, **options: Any) -> Any:
            answer = own(*args, **options)
            answer = list(answer) if hasattr(answer, "__next__") else answer
            came.append(pickle.dumps(answer))
            return answer

        return noted

    with pytest.MonkeyPatch.context() as patch:
        ways = {RDD: ("collect", "toLocalIterator", "take", "reduce"), DataFrame: ("collect", "toPandas", "toArrow")}
        ways[DataFrame] += ("toLocalIterator", "take", "head", "first", "tail")
        for kind, names in ways.items():
            for name in names:
                patch.setattr(kind, name, noting(getattr(kind, name)))
        yield came
