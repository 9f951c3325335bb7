"""How soon the page of many suspects opens, and how smoothly its list scrolls, in a real Chromium without a window.

    python benchmarks/page.py                  # 10,000 suspects
    python benchmarks/page.py --suspects 2700

Opens the page a few times in a fresh profile, scrolls from the first suspect to the last, marks some, then all, and
undoes that. Prints bytes, the seconds to the end of the load event (of which the script's first drawing is a part), and
how long the longest tasks of the page's thread took after that: of the processor's time, which is what they take where
nothing else wants the processor, and by the clock. Needs selenium, and chromium with its driver.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from selenium import webdriver

from page_cases import evidence, page
from test_page_in_browser import CHROMIUM, DRIVER, FLAGS

SCROLL = """
const done = arguments[arguments.length - 1], list = document.getElementById("list");
const end = list.scrollHeight - list.clientHeight, steps = 240;
let step = 0;
function next() {
  list.scrollTop = (end * ++step) / steps;
  if (step < steps) return requestAnimationFrame(next);
  for (const key of "rkrkrk") list.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  document.getElementById("mark-all").click();
  document.getElementById("undo").click();
  setTimeout(done, 500);
}
requestAnimationFrame(next);
"""
CATEGORIES = "devtools.timeline,disabled-by-default-devtools.timeline"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suspects", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    if not (CHROMIUM and DRIVER):
        sys.exit("Chromium or its driver is not installed: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory() as folder:
        file = page(Path(folder) / "page.html", evidence(arguments.suspects, 1500))
        print(f"{arguments.suspects:,} suspects, {file.stat().st_size / 1e6:.2f} MB")
        opened: list[float] = []
        for time in range(arguments.times):
            driver = browser(Path(folder) / f"profile-{time}")
            try:
                driver.get(file.as_uri())
                timing = driver.execute_script(
                    "return performance.getEntriesByType('navigation')[0].toJSON()"
                )
                opened.append(timing["loadEventEnd"] / 1000)
                driver.get_log("performance")
                driver.execute_async_script(SCROLL)
                driver.get("about:blank")  # Which ends the trace.
                by_clock, by_processor = longest_tasks(driver.get_log("performance"))
            finally:
                driver.quit()
            took = f"{by_processor} of the processor, {by_clock} by the clock"
            print(f"  opened in {opened[-1]:.2f} s; longest tasks in ms: {took}")
        print(f"opened in {statistics.median(opened):.2f} s (median)")


def longest_tasks(log: list[dict[str, Any]], count: int = 5) -> tuple[list[int], list[int]]:
    """The longest tasks of pages' main threads in a trace, in ms: by the clock and of the processor's time."""
    messages = [json.loads(entry["message"])["message"] for entry in log]
    events = [each["params"] for each in messages if each["method"] == "Tracing.dataCollected"]
    main = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"].get("name") == "CrRendererMain"
    }
    tasks = [event for event in events if event["name"] == "RunTask" and (event["pid"], event["tid"]) in main]
    by_clock, by_processor = (
        sorted((round(task.get(kind, 0) / 1000) for task in tasks), reverse=True)[:count]
        for kind in ("dur", "tdur")
    )
    return by_clock, by_processor


def browser(profile: Path) -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    options.add_experimental_option("perfLoggingPrefs", {"traceCategories": CATEGORIES})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


if __name__ == "__main__":
    main()
