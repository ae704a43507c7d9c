"""Takes the picture of a report for the README: `python docs/images/make_report_picture.py REPORT_HTML OUT_PNG`.

Needs Chromium or Chrome. Shows the page as it is and touches no network.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def find_browser() -> str:
    """Path of the first browser that is installed."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    sys.exit(f"No browser found; install one of {', '.join(BROWSERS)} and run this again.")


def take_picture(report: Path, picture: Path, width: int, height: int, scheme: str) -> None:
    """Write a PNG of the report's first `height` pixels at this width."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                find_browser(),
                *SWITCHES,
                f"--user-data-dir={profile}",
                f"--blink-settings=preferredColorScheme={'0' if scheme == 'dark' else '1'}",
                f"--window-size={width},{height}",
                f"--screenshot={picture.resolve()}",
                report.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


def main() -> None:
    """Read the command line and take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, metavar="REPORT_HTML")
    parser.add_argument("picture", type=Path, metavar="OUT_PNG")
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1800)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    options = parser.parse_args()
    if not options.report.is_file():
        sys.exit(f"{options.report} is not a file; name a report.html that a job has written.")
    take_picture(options.report, options.picture, options.width, options.height, options.scheme)
    print(options.picture)


if __name__ == "__main__":
    main()
