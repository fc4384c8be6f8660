"""dpsynth doctor: what this installation has, for a question to somebody who helps."""

import typer

from dpsynth.cli.common import guarded

__all__ = ["run"]

_PACKAGES = {
    "deep": ("torch", "opacus", "diffusers", "monai", "einops"),
    "image": ("nibabel", "pydicom"),
    "sql": ("duckdb", "psycopg"),
    "spark": ("pyspark",),
    "federated": ("aiohttp", "cryptography"),
    "survival": ("lifelines", "scikit-survival"),
}
_NEEDED = ("numpy", "pandas", "pyarrow", "opendp", "dp-accounting", "pydantic", "scikit-learn", "scipy", "matplotlib")


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@guarded
def run() -> None:
    """Print versions, extras, cores, memory, disk, graphics processors, and where ledgers of read-only data lie.

    Nothing of any data is read, and no path of a dataset is printed.

    For example:

        dpsynth doctor
    """
    import os
    import platform
    import shutil
    import tempfile
    from importlib.util import find_spec

    from dpsynth import __version__
    from dpsynth.privacy.spending.ledger_pointer import state_folder

    typer.echo(f"dpsynth     {__version__}")
    typer.echo(f"python      {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in _NEEDED:
        typer.echo(f"  {name:<16} {_version(name)}")
    for extra, names in _PACKAGES.items():
        shown = ", ".join(f"{name} {_version(name)}" for name in names)
        typer.echo(f"[{extra}]".ljust(12) + shown)
    typer.echo(f"java        {shutil.which('java') or 'not found'} (for Spark)")
    typer.echo(f"cores       {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}")
    if hasattr(os, "sysconf"):
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        typer.echo(f"memory      {pages / 2**30:.1f} GiB")
    folder = tempfile.gettempdir()
    typer.echo(f"disk        {shutil.disk_usage(folder).free / 2**30:.1f} GiB free in {folder} (TMPDIR)")
    if find_spec("torch") is None:
        typer.echo("graphics    unknown: torch is not installed")
    else:
        import torch

        devices = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
        typer.echo(f"graphics    {', '.join(devices) or 'none'}")
    typer.echo(f"ledgers     beside the data; of read-only places in {state_folder()}")
