"""The report's page in a real browser."""

import json
import re

import pytest
from browser import CHROMIUM, DRIVER, browser

from mgnas.reports.analysis.constraints import Constraints
from mgnas.reports.analysis.select import select
from mgnas.reports.page.data import as_script_block
from mgnas.reports.report import report_folder, write_report
from mgnas.search.trial_record import completed_trials

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and chromedriver")


@pytest.fixture(scope="module")
def page(reported_run):
    """The report of a run in which one name would be markup, and one network was trained fully."""
    return report_folder(reported_run) / "report.html"


def text(driver, selector):
    return driver.execute_script("return document.querySelector(arguments[0]).innerText", selector)


def assert_quiet(driver):
    assert driver.get_log("browser") == []
    assert driver.execute_script("return document.documentElement.dataset.ready") == "yes"
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    asked = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert driver.execute_script(asked) == []


def move(driver, selector, value):
    script = (
        "const slider = document.querySelector(arguments[0]); slider.value = arguments[1];"
        "slider.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    driver.execute_script(script, selector, value)


def test_hover_click_sliders_and_keys(reported_run, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    records = reported_run.load()
    with browser() as driver:
        driver.get(page.resolve().as_uri())
        assert_quiet(driver)
        assert "4 of 4 networks of the front remain, 5 trials in all." in text(driver, "#remains")
        assert len(driver.find_elements("css selector", "#chart .mark.front")) == 4
        assert len(driver.find_elements("css selector", "#chart .error")) == 1

        mark = driver.find_element("css selector", '#chart .mark[data-trial="3"]')
        driver.execute_script("document.getElementById('chart').scrollIntoView({block: 'center'})")
        ActionChains(driver).move_to_element(mark).perform()
        assert records[3].candidate.architecture.describe() in text(driver, "#tip")
        assert "95.00 %" in text(driver, "#tip")
        ActionChains(driver).move_to_element(mark).click().perform()
        kept = text(driver, "#kept")
        assert "Trial 3" in kept
        assert "family: mgnet" in kept
        assert len(driver.find_elements("css selector", "#kept .bar")) >= 3
        assert driver.find_elements("css selector", "#kept polyline")
        assert "stem: 3x3" in text(driver, "#kept .drawing")

        # The sliders and `mgnas select` mean the same.
        move(driver, "#max-weights", 120)
        move(driver, "#min-accuracy", 100)
        for number, prefer in enumerate(("knee", "accuracy", "weights"), start=1):
            driver.find_element("css selector", f"#prefer option:nth-child({number})").click()
            command = text(driver, "#command")
            limits = {
                name: float(re.search(rf"--{name.replace('_', '-')} (\S+)", command)[1])
                for name in ("max_weights", "min_accuracy")
            }
            chosen = select(
                records, Constraints(int(limits["max_weights"]), min_accuracy=limits["min_accuracy"]), prefer
            )
            assert command.endswith(f"--prefer {prefer}")
            assert f"select takes trial {chosen.record.number}:" in text(driver, "#chosen")
            kept = sum(
                trial.weights <= limits["max_weights"] and trial.accuracy >= limits["min_accuracy"]
                for trial in completed_trials(records)
            )
            assert f"{kept} trials in all" in text(driver, "#remains")
        move(driver, "#max-weights", 0)
        move(driver, "#min-accuracy", 200)
        assert text(driver, "#chosen") == "Nothing keeps these limits."
        move(driver, "#max-weights", 200)
        move(driver, "#min-accuracy", 0)

        chart = driver.find_element("id", "chart")
        driver.execute_script("arguments[0].focus()", chart)
        ActionChains(driver).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
        assert "90.00 %" in driver.execute_script("return document.getElementById('live').textContent")
        ActionChains(driver).send_keys(Keys.ENTER).perform()
        assert "Trial 2" in text(driver, "#kept")
        assert "test accuracy 92.00 % +- 1.41 over 2 seeds" in text(driver, "#kept")
        driver.find_element("css selector", '[data-keep="0 0"]').send_keys(Keys.ENTER)
        assert "Trial 0" in text(driver, "#kept")
        assert_quiet(driver)


def test_how_sure_the_front_is(lucky_run):
    with browser() as driver:
        driver.get(write_report(lucky_run, latency_seconds=0).as_uri())
        assert_quiet(driver)
        box = driver.execute_script(
            "const box = document.querySelector('#chart .band').getBBox();"
            "const chart = document.querySelector('#chart').getBBox();"
            "return [box.width / chart.width, box.height, box.y]"
        )
        assert box[0] > 0.5
        assert box[1] > 10
        assert box[2] >= 0
        assert "on the front" in text(driver, "thead")
        assert text(driver, "tbody tr").split("\t")[3] == "100 %"
        assert "the best within a budget, luck left out, with 90 %" in text(driver, ".legend")
        assert "on the front" in text(driver, "#kept .facts").lower()
        assert "--doubtful" in driver.page_source


def test_everything_is_reached_by_tab(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    reached = set()
    with browser() as driver:
        driver.get(page.resolve().as_uri())
        for _ in range(25):
            ActionChains(driver).send_keys(Keys.TAB).perform()
            reached.add(driver.execute_script("return document.activeElement.id"))
    assert {"chart", "max-weights", "min-accuracy", "prefer", "take"} <= reached


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_telephone_shows_the_page_without_scrolling_sideways(page, dark):
    with browser(400, 800, dark) as driver:
        driver.get(page.resolve().as_uri())
        assert_quiet(driver)
        background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")


def test_names_that_would_be_markup_stay_text(reported_run, page, tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    content = page.read_text().replace(reported_run.path.name, "safe")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', content, re.DOTALL)[1]
    parsed = json.loads(data)
    parsed["runs"][0]["trials"][0]["words"] = hostile
    block = as_script_block(parsed)
    assert "</script" not in block
    assert json.loads(block)["runs"][0]["trials"][0]["words"] == hostile
    hurt = tmp_path / "hurt.html"
    hurt.write_text(content.replace(data, block))
    with browser() as driver:
        driver.get(hurt.resolve().as_uri())
        driver.find_element("css selector", '[data-keep="0 0"]').click()
        assert hostile in text(driver, "#kept")
        assert driver.find_elements("css selector", "#kept img") == []
        assert_quiet(driver)


def test_other_scripts_do_not_run(page, tmp_path):
    changed = tmp_path / "changed.html"
    changed.write_text(page.read_text().replace('"use strict";', '"use strict"; document.title = "taken over";', 1))
    with browser() as driver:
        driver.get(changed.resolve().as_uri())
        assert driver.title != "taken over"
        assert "Content Security Policy" in driver.get_log("browser")[0]["message"]
