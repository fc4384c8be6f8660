"""The page in a browser: a test that needs Chromium fails under CI where it is missing, and is skipped elsewhere."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dpsynth.evaluation import Evaluation

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
)


@pytest.fixture(scope="module")
def chromium() -> str:
    """Return the browser."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    if os.environ.get("CI") == "true":
        pytest.fail("chromium is not installed; .ci/run installs it")
    pytest.skip("chromium is not installed; the page was not opened in a browser")


def opened(chromium: str, page: Path, folder: Path) -> tuple[str, list[str]]:
    """Return a page's DOM after loading without any network, and what it wrote to the console."""
    command = [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.parametrize("public", [True, False])
def test_the_page_opens_offline_without_console_messages(
    private: Evaluation, chromium: str, tmp_path: Path, *, public: bool
) -> None:
    """Nothing is missing, blocked or refused when there is no network."""
    page = tmp_path / "report.html"
    private.write_html(page, public=public)
    dom, console = opened(chromium, page, tmp_path)
    assert console == []
    assert 'id="annex"' in dom


@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_fits_its_window(private: Evaluation, chromium: str, tmp_path: Path, width: int) -> None:
    """Nothing makes the page wider than the window: wide tables scroll by themselves, drawings shrink."""
    private.write_html(tmp_path / "report.html")
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<iframe src='report.html' style='width:{width}px;height:900px;border:0' onload='measure(this)'></iframe>"
        "<script>function measure(f) {"
        "const d = f.contentDocument; for (const x of d.querySelectorAll('details')) x.open = true;"
        "document.title = 'wide ' + d.documentElement.scrollWidth + ' ' + d.querySelectorAll('svg').length;"
        "}</script>",
        encoding="utf-8",
    )
    dom, _ = opened(chromium, frame, tmp_path)
    found = re.search(r"<title>wide (\d+) (\d+)</title>", dom)
    assert found is not None
    assert int(found[1]) <= width
    assert int(found[2]) > 10


def test_folded_tables_are_printed(private: Evaluation, chromium: str, tmp_path: Path) -> None:
    """Print styles open what is folded on the screen: the printed page is longer than the same page without tables."""
    page = private.html()
    sizes = []
    for name, text in (("whole", page), ("bare", re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL))):
        source, target = tmp_path / f"{name}.html", tmp_path / f"{name}.pdf"
        source.write_text(text, encoding="utf-8")
        command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer"]
        command += [f"--print-to-pdf={target}", source.as_uri()]
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        sizes.append(len(re.findall(rb"/Type\s*/Page\b", target.read_bytes())))
    assert sizes[0] > sizes[1] + 2
