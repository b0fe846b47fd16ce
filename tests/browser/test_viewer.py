"""The viewer of volumes in a real browser: drawn with WebGL, still without."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.support.ui import Select, WebDriverWait

PATIENCE = 240  # WebGL without a graphics card compiles its programs on the processor


def wait(browser, condition):
    return WebDriverWait(browser.driver, PATIENCE).until(lambda _: condition())


def state(browser):
    return browser.js("return document.documentElement.dataset.viewer")


def drawn(browser):
    """What the canvas shows, as an array of shape (height, width, 3)."""
    code = "const {x, y, width, height} = document.getElementById('volume').getBoundingClientRect();"
    place = browser.js(code + "return scrollY === 0 && y + height <= innerHeight ? {x, y, width, height} : null")
    assert place is not None, "the window is too small for the whole page"
    shot = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": {**place, "scale": 1}})
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")).astype(int)


def blue(pixels):
    """Pixels in which the reference tints the grey."""
    return int((pixels[..., 2] > pixels[..., 0] + 40).sum())


def orange(pixels):
    """Pixels in which the prediction does."""
    return int((pixels[..., 0] > pixels[..., 2] + 40).sum())


def press(browser, name):
    browser.find(f'[name="{name}"]').click()
    return drawn(browser)


def page_of(board):
    (page,) = board.glob("runs/*/viewer.html")
    return page.relative_to(board).as_posix()


def open_viewer(painter, viewed, root):
    """Open the page of the run, then the viewer by its link; return what is drawn."""
    painter.look(600, 1700)
    painter.messages()
    painter.requests()
    painter.open(f"{root}/{page_of(viewed).replace('viewer.html', 'index.html')}")
    asked = painter.requests()
    assert not [url for url in asked if "niivue" in url or "/volumes/" in url]
    painter.find('a[href="viewer.html"]').click()
    wait(painter, lambda: state(painter))
    assert state(painter) == "drawn", painter.shown("[data-viewer-why]")
    assert "voxels of" in painter.find("[data-viewer-status]").text
    both = drawn(painter)
    assert (both.max(axis=2) > 60).mean() > 0.2  # a head on black
    assert blue(both) > 50
    assert orange(both) > 50
    return both


def assert_quiet(painter, root):
    assert painter.messages() == []
    assert [url for url in painter.requests() if not url.startswith((root, "data:image/", "blob:"))] == []


@pytest.mark.timeout(600)  # see PATIENCE
def test_volumes_are_drawn_from_a_server(painter, viewed, viewed_over_http):
    open_viewer(painter, viewed, viewed_over_http)
    assert_quiet(painter, viewed_over_http)


@pytest.mark.timeout(600)  # see PATIENCE
def test_volumes_are_drawn_from_a_folder_and_layers_come_and_go(painter, viewed):
    both = open_viewer(painter, viewed, viewed.as_uri())
    assert orange(press(painter, "prediction")) < orange(both) / 10
    assert blue(press(painter, "reference")) < blue(both) / 10
    differs = press(painter, "difference")
    assert min(blue(differs), orange(differs)) > 20
    Select(painter.find('[name="view"]')).select_by_visible_text("axial")
    wait(painter, lambda: (drawn(painter) != differs).mean() > 0.01)
    painter.find('[value="median_pt_332"]').click()
    wait(painter, lambda: "median_pt_332" in painter.js("return Object.keys(window.__volumes)"))
    wait(painter, lambda: "voxels of" in painter.find("[data-viewer-status]").text)
    assert_quiet(painter, viewed.as_uri())


def test_without_webgl_the_pictures_stay_still_and_say_why(flat, viewed, viewed_root):
    flat.messages()
    flat.requests()
    flat.open(f"{viewed_root}/{page_of(viewed)}")
    assert state(flat) == "still"
    assert flat.shown("[data-viewer-why]")[0].startswith("This browser has no WebGL 2")
    assert len(flat.shown(".slices figure")) == 2
    assert not flat.find("#volume").is_displayed()
    assert not [url for url in flat.requests() if "niivue" in url]
    assert flat.messages() == []


def test_without_javascript_there_are_pictures(flat, viewed):
    flat.allow_scripts(allowed=False)
    try:
        flat.open(f"{viewed.as_uri()}/{page_of(viewed)}")
        assert len([one for one in flat.all(".slices figure") if one.is_displayed()]) == 2
        assert not flat.find("[data-viewer]").is_displayed()
    finally:
        flat.allow_scripts(allowed=True)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_in_the_viewer(flat, viewed, axe, width, scheme):
    flat.look(width, 900, scheme)
    flat.open(f"{viewed.as_uri()}/{page_of(viewed)}")
    flat.js("document.querySelector('[data-viewer]').hidden = false")  # its controls, with or without WebGL
    flat.js(axe)
    code = "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(r => done(r.violations))"
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in flat.driver.execute_async_script(code)] == []
    assert flat.js("return document.documentElement.scrollWidth") <= width
