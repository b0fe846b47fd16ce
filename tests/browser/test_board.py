"""The board in a real browser, from a folder and from a server."""

from __future__ import annotations

import csv
import json

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

ROWS = '[data-table="claims"] tbody tr'
_PATIENCE = 150
SELECT = 'form[data-for="claims"] select[name="{}"]'


def front(browser, root, state=""):
    browser.open(f"{root}/index.html{state}")


def rows(browser):
    return browser.shown(ROWS)


def values(browser):
    kept = "[...document.querySelectorAll(arguments[0])].filter(row => !row.hidden)"
    return browser.js(f"return {kept}.map(row => +row.querySelector('.value').dataset.v)", ROWS)


def fragment(browser):
    return browser.js("return location.hash")


def wait(browser, condition):
    return WebDriverWait(browser.driver, 10).until(lambda _: condition())


def test_every_page_opens_quietly_and_asks_for_nothing_else(browser, root, pages):
    for page in pages:
        browser.open(f"{root}/{page}")
        assert browser.js("return document.styleSheets.length && document.documentElement.classList.contains('js')"), (
            page
        )
        assert browser.js("return [...document.images].every(i => (i.scrollIntoView(), true))")
        wait(browser, lambda: browser.js("return [...document.images].every(i => i.complete && i.naturalWidth > 0)"))
    assert browser.messages() == []
    asked = browser.requests()
    assert len(asked) > len(pages)
    assert [url for url in asked if not url.startswith(root)] == []


def test_scripts_and_styles_that_slip_in_do_not_run(browser, root):
    front(browser, root)
    browser.js(
        """
        const script = document.createElement('script');
        script.textContent = 'window.owned = 1';
        document.body.append(script);
        const holder = document.createElement('div'); holder.innerHTML = '<img src=x onerror="window.owned = 2">';
        document.body.append(holder); fetch('https://example.org/').catch(() => {});
        """
    )
    assert browser.js("return new Promise(done => setTimeout(() => done(window.owned || 'safe'), 300))") == "safe"
    assert any("Content Security Policy" in message for message in browser.messages())
    assert not [url for url in browser.requests() if "example.org" in url]


def test_sorting_by_a_column(browser, root):
    front(browser, root)
    before = rows(browser)
    assert len(before) == 177
    head = '[data-table="claims"] th[data-sort="reported"]'
    browser.find(f"{head} button").click()
    found = values(browser)
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]
    assert browser.find(head).get_attribute("aria-sort") == "descending"
    assert fragment(browser) == "#claims.sort=-reported"
    browser.find(f"{head} button").click()
    assert values(browser) == sorted(found)
    assert browser.find(head).get_attribute("aria-sort") == "ascending"
    browser.find(f"{head} button").click()
    assert rows(browser) == before
    assert fragment(browser) == ""


def test_filters_change_rows_count_and_address(browser, root):
    front(browser, root)
    Select(browser.find(SELECT.format("model"))).select_by_value("Med3D")
    kept = rows(browser)
    assert 0 < len(kept) < 177
    assert all(text.startswith("Med3D") for text in kept)
    assert browser.find('[data-count="claims"]').text == f"{len(kept)} of 177 shown"
    assert fragment(browser) == "#claims.model=Med3D"
    Select(browser.find(SELECT.format("init"))).select_by_value("scratch")
    assert 0 < len(rows(browser)) < len(kept)
    browser.find('form[data-for="claims"] [type=reset]').click()
    assert len(rows(browser)) == 177
    assert fragment(browser) == ""


def test_the_rows_shown_can_be_saved_and_no_others(browser, root, tmp_path):
    place = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", place)
    front(browser, root, "#claims.model=Med3D&claims.init=scratch&claims.sort=-reported")
    shown = values(browser)
    for kind in ("csv", "json"):
        browser.find(f'[data-downloads="claims"] [data-save="{kind}"]').click()
        wait(browser, lambda kind=kind: (tmp_path / f"claims.{kind}").is_file())
    held = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    table = list(csv.DictReader((tmp_path / "claims.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["reported"] for row in held] == shown
    assert [float(row["reported"]) for row in table] == shown
    assert {row["model"] for row in held} == {"Med3D"}
    assert [row["id"] for row in held] == [row["id"] for row in table]
    assert {"variant", "task", "split", "unit", "verdict"} <= set(held[0])
    assert browser.messages() == []


def test_search_looks_at_every_word(browser, root):
    front(browser, root)
    browser.find('input[name="q"]').send_keys("lung SEGTHOR")
    found = rows(browser)
    assert all("segthor" in text.lower() for text in found)
    assert len(found) < 177
    browser.find('input[name="q"]').send_keys(" nosuchword")
    assert rows(browser) == []
    assert browser.find('[data-empty="claims"]').is_displayed()


def test_a_deep_link_restores_filters_order_and_search(browser, root):
    front(browser, root, "#claims.dataset=btcv&claims.q=swin&claims.sort=reported")
    found = values(browser)
    assert 1 < len(found) < 177
    assert found == sorted(found)
    assert Select(browser.find(SELECT.format("dataset"))).first_selected_option.get_attribute("value") == "btcv"
    assert browser.find('input[name="q"]').get_attribute("value") == "swin"


def test_a_hostile_deep_link_is_harmless(browser, root):
    front(browser, root, "#claims.model=%3Cimg%20src=x%20onerror=alert(1)%3E&claims.sort=__proto__&claims.q=%22%3E&x=")
    assert rows(browser) == []
    front(browser, root, "#claims.sort=-constructor")
    assert len(rows(browser)) == 177
    assert browser.messages() == []


def test_back_and_forward_walk_through_the_states(browser, root):
    front(browser, root)
    Select(browser.find(SELECT.format("model"))).select_by_value("Med3D")
    first = len(rows(browser))
    browser.find('[data-table="claims"] th[data-sort="reported"] button').click()
    browser.driver.back()
    wait(browser, lambda: fragment(browser) == "#claims.model=Med3D")
    assert len(rows(browser)) == first
    browser.driver.back()
    wait(browser, lambda: len(rows(browser)) == 177)
    assert Select(browser.find(SELECT.format("model"))).first_selected_option.text == "all"
    browser.driver.forward()
    wait(browser, lambda: len(rows(browser)) == first)
    link = browser.find(f"{ROWS}:not([hidden]) th a")
    link.click()
    wait(browser, lambda: "/claims/" in browser.driver.current_url)
    browser.driver.back()
    wait(browser, lambda: len(rows(browser)) == first)


def test_without_javascript_the_ledger_reads_in_full(browser, root):
    browser.allow_scripts(allowed=False)
    front(browser, root)
    shown = [row for row in browser.all(ROWS) if row.is_displayed()]
    assert len(shown) == 177
    assert not browser.find('form[data-for="claims"]').is_displayed()
    assert not browser.find("[data-theme-switch]").is_displayed()
    assert browser.all("button.sort") == []
    assert "not attempted" in shown[0].text


def test_keyboard_alone_is_enough(browser, root):
    front(browser, root)
    active = browser.driver.switch_to.active_element

    def press(*keys):
        browser.driver.switch_to.active_element.send_keys(*keys)

    active.send_keys(Keys.TAB)
    assert browser.js("return document.activeElement.className") == "skip"
    press(Keys.ENTER)
    assert browser.js("return document.activeElement.id") == "main"
    for _ in range(60):
        press(Keys.TAB)
        assert browser.js("return getComputedStyle(document.activeElement).outlineStyle") != "none"
        if browser.js("return document.activeElement.name") == "q":
            break
    else:
        pytest.fail("the search field was not reached by Tab")
    press("models genesis")
    few = len(rows(browser))
    assert 0 < few < 177
    for _ in range(20):
        press(Keys.TAB)
        if browser.js("return document.activeElement.closest('th')?.dataset.sort") == "reported":
            break
    press(Keys.ENTER)
    found = values(browser)
    assert len(found) == few
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("width", [320, 390, 768, 1000])
def test_no_page_is_wider_than_the_screen(browser, root, pages, width):
    browser.look(width, 800)
    for page in pages:
        browser.open(f"{root}/{page}")
        assert browser.js("return document.documentElement.scrollWidth") <= width, page


def test_the_run_list_and_the_print_hide_no_column(browser, root):
    """A table that scrolls inside its frame must not do so on a desk's screen, nor ever on paper."""
    wide = "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    browser.open(f"{root}/runs.html")
    assert browser.js(wide) == 0
    browser.look(794, 1123, medium="print")  # A4 at 96 dots an inch
    for page in ("index.html", "runs.html"):
        browser.open(f"{root}/{page}")
        assert browser.js("return document.documentElement.scrollWidth") <= 794, page
        inner = (
            "return [...document.querySelectorAll('.scroll')].every(e => getComputedStyle(e).overflowX === 'visible')"
        )
        assert browser.js(inner), page


def test_marks_are_seen_without_scrolling_on_pages_of_such_results(browser, root, pages):
    for page in pages:
        if page.startswith(("runs/", "cells/")):
            browser.open(f"{root}/{page}")
            mark = browser.find(".mark")
            assert mark.is_displayed()
            assert mark.rect["y"] + mark.rect["height"] < 500
            assert "not a reproduction" in mark.text


def test_the_theme_can_be_chosen_and_is_remembered(browser, over_http):
    def paper():
        return browser.js("return getComputedStyle(document.documentElement).backgroundColor")

    front(browser, over_http)
    light = paper()
    browser.find("[data-theme-switch]").click()
    dark = paper()
    assert dark != light
    browser.open(f"{over_http}/method.html")
    assert paper() == dark
    assert browser.find("[data-theme-switch]").get_attribute("aria-pressed") == "true"
    browser.find("[data-theme-switch]").click()
    assert paper() == light
    browser.js("localStorage.clear()")
    browser.look(1280, 900, "dark")
    front(browser, over_http)
    assert paper() == dark


def test_print_leaves_the_controls_out(browser, root):
    browser.look(1280, 900, medium="print")
    front(browser, root)
    assert not browser.find('form[data-for="claims"]').is_displayed()
    assert not browser.find(".top nav").is_displayed()
    assert browser.find(ROWS).is_displayed()
    assert browser.find(".mark").is_displayed()


def test_attacked_pages_are_quiet_and_whole(browser, attacked):
    for path in sorted(attacked.rglob("*.html")):
        if path.parent.name == "claims":
            continue
        browser.open(path.as_uri())
        assert browser.js("return window.owned === undefined && document.querySelectorAll('h1').length") == 1
        assert browser.js("return document.documentElement.scrollWidth") <= 1280, path
    assert browser.messages() == []
    assert [url for url in browser.requests() if not url.startswith(attacked.as_uri())] == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing(browser, board, pages, axe, width, scheme):
    browser.look(width, 900, scheme)
    browser.driver.set_script_timeout(_PATIENCE)  # the ledger has thousands of elements, and a processor may be busy
    found = []
    for page in pages:
        browser.open(f"{board.as_uri()}/{page}")
        browser.js(axe)
        result = browser.driver.execute_async_script(
            "const done = arguments[0];"
            "axe.run({resultTypes: ['violations']}).then(done, e => done({violations: [{id: String(e)}]}))"
        )
        found += [
            (page, v["id"], v.get("impact"), v["nodes"][0]["html"][:200] if v.get("nodes") else "")
            for v in result["violations"]
        ]
    assert found == []
