"""Build the board of many records with many cases, over all cores, and open its front page in Chromium.

    python benchmarks/board.py [--records 10000] [--cases 100] [--classes 1] [--workers 2]

The records are those of `many_records.py`. Making them is not part of the figure; verifying them is, because a board
shows nothing that it has not checked.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import time
from pathlib import Path

from many_records import arguments, children, make, memory

from harness.leaderboard import build


def interactive(page: Path) -> str:
    """Return how long Chromium takes until the filters work, and until one has been applied."""
    if shutil.which("chromedriver") is None:
        return "no chromedriver, so the page was not opened"
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.get(page.as_uri())
            ready = driver.execute_script(
                "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
            )
            script = """
                const start = performance.now();
                const field = document.querySelector('form[data-for=claims] select[name=model]');
                field.value = 'Med3D';
                field.dispatchEvent(new Event('change', {bubbles: true}));
                document.body.offsetHeight;
                return performance.now() - start;
            """
            return f"interactive after {ready:.0f} ms, a filter applied in {driver.execute_script(script):.0f} ms"
        finally:
            driver.quit()


def main() -> None:
    chosen = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        make(root, chosen)
        before, start = time.process_time() + children(), time.perf_counter()
        front = build([root], Path(folder) / "board", workers=chosen.workers)
        seconds = time.perf_counter() - start
        cpu = time.process_time() + children() - before
        this, worker = memory()
        pages = sum(1 for _ in front.parent.glob("runs/*/index.html"))
        size = sum(path.stat().st_size for path in front.parent.rglob("*") if path.is_file())
        print(
            f"{chosen.records:,} records x {chosen.cases} cases x 3 metrics x {chosen.classes} classes: {seconds:.1f} s"
            f" wall on {chosen.workers} workers, {cpu:.1f} s CPU, {1000 * cpu / chosen.records:.1f} CPU ms a record; "
            f"memory {this:.0f} MB + {chosen.workers} x {worker:.0f} MB; board {size / 2**20:.0f} MiB"
        )
        packed = len(gzip.compress(front.read_bytes()))
        print(f"front page {packed / 1024:.0f} KiB compressed; {interactive(front)}")
        if pages != chosen.records:
            raise SystemExit(f"only {pages} of {chosen.records} records have a page")


if __name__ == "__main__":
    main()
