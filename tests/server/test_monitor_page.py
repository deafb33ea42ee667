"""The monitor page and the stream in a real browser: Debian's Chromium without a screen. Pictures in out/monitor/."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paintover.bridge.live import LIVE

from ..waiting import wait_until
from .web_server import WebServer, serving

pytest.importorskip("selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromium-driver are not installed")
OUT = Path(__file__).parents[2] / "out" / "monitor"
PHONE, DESK = (390, 844), (1440, 900)


def make_browser() -> Any:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    # --no-sandbox: tests may run as root. No network but loopback.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                 "--window-size=1600,1100"):  # fmt: skip
        options.add_argument(flag)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = make_browser()
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    heard = [SimpleNamespace(when=time.time(), sender="127.0.0.1", address="/paintover/guidance", text="4.5")]
    wrong = [SimpleNamespace(when=time.time(), sender="127.0.0.1", address="/paintover/sed", text="no such address")]
    with serving(heard=lambda: (heard, wrong)) as running:
        running.set("prompt", "old red brick, moss in the joints")
        paint_rainbow(running)
        yield running


def paint_rainbow(server: WebServer) -> None:
    """Something that is recognised on a screenshot: red grows to the right, green downward."""
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    across, down = np.meshgrid(ramp, ramp)
    server.stage.show(np.stack([across, down, np.full_like(across, 128)], -1))


def size(browser: Any, width: int, height: int, phone: bool = False) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone},
    )


def look(browser: Any, server: WebServer, wide: tuple[int, int] = DESK, phone: bool = False) -> None:
    """Open the page anew and wait until it shows a frame."""
    size(browser, *wide, phone=phone)
    browser.get(server.url + "/")
    browser.execute_script("localStorage.clear()")
    browser.get_log("browser")
    browser.refresh()
    wait_until(lambda: browser.execute_script("return document.body.dataset.link") == "there")
    wait_until(lambda: int(browser.execute_script("return document.getElementById('frame').dataset.frames ?? 0")) > 2)
    wait_until(lambda: browser.execute_script("return document.getElementById('state').textContent") == "running")


def shown(browser: Any) -> np.ndarray:
    """The page's own pixels as uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))


def keep(browser: Any, name: str) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_bytes(browser.get_screenshot_as_png())


def move(browser: Any, name: str, value: float) -> None:
    """Move a slider as a hand does: press, drag, let go."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    slider = browser.find_element(By.ID, f"p-{name}")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
    row = next(row for row in LIVE if row.name == name)
    assert row.minimum is not None
    assert row.maximum is not None
    width = slider.size["width"]
    share = (value - row.minimum) / (row.maximum - row.minimum)
    start = (float(slider.get_property("value")) - row.minimum) / (row.maximum - row.minimum)
    chain = ActionChains(browser, duration=20)
    chain.move_to_element_with_offset(slider, int((start - 0.5) * (width - 8)), 0).click_and_hold()
    chain.move_to_element_with_offset(slider, int((share - 0.5) * (width - 8)), 0).release().perform()


def test_the_page_shows_the_picture_and_the_status(server: WebServer, browser: Any) -> None:
    look(browser, server)
    frame = browser.execute_script(
        "const c = document.getElementById('frame'); const p = c.getContext('2d');"
        "return [c.width, c.height, ...p.getImageData(20, 490, 1, 1).data, ...p.getImageData(490, 20, 1, 1).data]"
    )
    assert frame[:2] == [512, 512]
    assert np.allclose(frame[2:5], (10, 245, 128), atol=12)
    assert np.allclose(frame[6:9], (245, 10, 128), atol=12)
    assert browser.execute_script("return document.getElementById('latency_ms').textContent") == "50.0"
    assert browser.execute_script("return document.getElementById('fps').textContent") == "24.0"
    assert "/paintover/guidance" in browser.execute_script("return document.getElementById('heard').textContent")
    problems = "return document.getElementById('problems').textContent"
    wait_until(lambda: "no such address" in browser.execute_script(problems))
    assert browser.execute_script("return document.documentElement.scrollHeight <= innerHeight"), "nothing to scroll"
    keep(browser, "desk.png")
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_every_parameter_has_a_control_that_shows_its_value(server: WebServer, browser: Any) -> None:
    look(browser, server)
    named = browser.execute_script("return [...document.querySelectorAll('[data-name]')].map(one => one.dataset.name)")
    assert sorted(named) == sorted(row.name for row in LIVE)
    assert browser.execute_script("return document.getElementById('p-prompt').value").startswith("old red brick")
    assert int(browser.execute_script("return document.getElementById('p-seed').value")) == server.state.values["seed"]
    server.set("guidance", 12.5)
    wait_until(lambda: float(browser.execute_script("return document.getElementById('p-guidance').value")) == 12.5)


def test_moving_a_slider_changes_the_value(server: WebServer, browser: Any) -> None:
    look(browser, server)
    for name, value in (("control_depth_scale", 1.5), ("feedback_rotate", -6.0), ("steps", 30)):
        move(browser, name, value)
        row = next(row for row in LIVE if row.name == name)
        span = (row.maximum or 0) - (row.minimum or 0)
        wait_until(lambda name=name, value=value, span=span: abs(server.state.values[name] - value) < 0.03 * span)


def test_switches_texts_and_numbers_change_the_value(server: WebServer, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    look(browser, server)
    browser.find_element(By.ID, "p-freeze").click()
    wait_until(lambda: server.state.values["freeze"] is True)
    browser.find_element(By.ID, "p-freeze").click()
    wait_until(lambda: server.state.values["freeze"] is False)
    was = server.state.values["control_edge"]
    browser.find_element(By.ID, "p-control_edge").click()
    wait_until(lambda: server.state.values["control_edge"] is not was)
    prompt = browser.find_element(By.ID, "p-prompt")
    prompt.send_keys(Keys.CONTROL, "a")
    prompt.send_keys("wet slate “ä”")
    assert server.state.values["prompt"] != "wet slate “ä”", "not while it is typed"
    prompt.send_keys(Keys.ENTER)
    wait_until(lambda: server.state.values["prompt"] == "wet slate “ä”")
    number = browser.find_element(By.CSS_SELECTOR, "[data-name=guidance] .number input")
    number.send_keys("99" + Keys.ENTER)
    wait_until(lambda: server.state.values["guidance"] == 30.0)
    browser.find_element(By.TAG_NAME, "h2").click()
    wait_until(lambda: number.get_property("value") == "30")  # what it sent was out of range: it shows what is used
    resets = server.state.resets
    browser.find_element(By.ID, "reset").click()
    wait_until(lambda: server.state.resets == resets + 1)
    before = server.state.values["seed"]
    browser.find_element(By.CSS_SELECTOR, "[data-name=seed] button").click()
    wait_until(lambda: server.state.values["seed"] != before)
    wait_until(lambda: number_of(browser, "p-seed") == server.state.values["seed"])


def number_of(browser: Any, name: str) -> float:
    return float(browser.execute_script(f"return document.getElementById('{name}').value"))


def test_presets_are_stored_and_recalled(server: WebServer, browser: Any) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    look(browser, server)
    server.set("strength", 0.25)
    pad = browser.find_element(By.CSS_SELECTOR, "[data-preset='3']")
    browser.find_element(By.ID, "store").click()
    pad.click()
    wait_until(lambda: 3 in server.state.presets)
    server.set("strength", 0.75)
    wait_until(lambda: pad.get_attribute("class") == "stored last")
    ActionChains(browser).click_and_hold(pad).perform()
    server.trigger("preset/store", 4)
    wait_until(lambda: browser.find_elements(By.CSS_SELECTOR, "[data-preset='4'].stored"))
    assert server.state.values["strength"] == 0.75
    ActionChains(browser).release().perform()  # a tap counts, whatever others store meanwhile
    wait_until(lambda: server.state.values["strength"] == 0.25)
    browser.find_element(By.CSS_SELECTOR, "[aria-label='Presets after']").click()
    assert pad.text == "19"


def test_it_is_usable_on_a_phone(server: WebServer, browser: Any) -> None:
    from selenium.webdriver.common.by import By

    look(browser, server, PHONE, phone=True)
    assert browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
    keep(browser, "phone.png")
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390, "nothing sticks out"
    small = browser.execute_script(
        "return [...document.querySelectorAll('#bar button, summary, .pads button, input[type=range]')]"
        ".filter(one => one.getBoundingClientRect().height < 38).map(one => one.id || one.textContent)"
    )
    assert small == [], "everything is large enough for a finger"
    server.set("feedback_zoom", 1.0)
    move(browser, "feedback_zoom", 1.25)
    wait_until(lambda: abs(server.state.values["feedback_zoom"] - 1.25) < 0.03)
    box = browser.find_element(By.ID, "picture").rect
    assert box["width"] == 390
    top = browser.execute_script("return document.getElementById('picture').getBoundingClientRect().top")
    assert 0 <= top < 80, "the picture stays in view while controls are moved"
    keep(browser, "phone-controls.png")
    assert (shown(browser)[200:600, 100:700].std(axis=(0, 1)) > 10).any(), "and shows something"


def test_the_stream_is_a_picture_in_the_browser(server: WebServer, browser: Any) -> None:
    look(browser, server)
    # Within a page: opened by itself a stream never ends loading, and the driver would wait for that.
    browser.execute_script("document.body.innerHTML = '<img id=stream src=stream.mjpg>'")
    wait_until(lambda: browser.execute_script("return document.getElementById('stream').naturalWidth") == 512)

    def centre() -> np.ndarray:
        pixel = browser.execute_script(
            "const c = document.createElement('canvas'); c.width = c.height = 512; const p = c.getContext('2d');"
            "p.drawImage(document.getElementById('stream'), 0, 0); return [...p.getImageData(256, 256, 1, 1).data]"
        )
        return np.array(pixel[:3])

    wait_until(lambda: np.abs(centre() - (128, 128, 128)).max() < 8)
    server.stage.paint(30, 200, 90, width=512, height=512)
    wait_until(lambda: np.abs(centre() - (30, 200, 90)).max() < 8)
    paint_rainbow(server)


def test_it_connects_again_by_itself(browser: Any) -> None:
    with serving() as server:
        server.stage.paint(9, 9, 9)
        look(browser, server)
        server.call(server.web.close())
        wait_until(lambda: browser.execute_script("return document.body.dataset.link") == "lost")
        keep(browser, "lost.png")
        from paintover.server.live.web import Web

        async def again() -> Web:
            web = Web(server.web._sources, "another")
            await web.start("127.0.0.1", server.port)
            return web

        server.web = server.call(again())
        wait_until(lambda: browser.execute_script("return document.body.dataset.link") == "there")
        wait_until(lambda: browser.execute_script("return document.getElementById('state').textContent") == "running")
