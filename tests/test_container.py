"""What the Dockerfile says is true of this version, and what it copies is let through."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_wheel_is_of_this_version() -> None:
    """The image is pinned to the wheel of this version, with extras that there are."""
    wheels = set(re.findall(r"dpsynth-[^ /\[\"]*\.whl", DOCKERFILE))
    assert wheels == {f"dpsynth-{PROJECT['version']}-py3-none-any.whl"}
    (extras,) = re.findall(r"\.whl\[([\w,]+)\]", DOCKERFILE)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_nothing_but_the_wheel_reaches_the_builder() -> None:
    """Patients that lie in the folder are never sent to the builder, and the image runs without rights."""
    assert (ROOT / ".dockerignore").read_text(encoding="utf-8").split() == ["*", "!dist/*.whl"]
    assert re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE) == [
        f"dist/dpsynth-{PROJECT['version']}-py3-none-any.whl"
    ]
    assert re.search(r"^USER [1-9]\d*$", DOCKERFILE, re.MULTILINE)
