"""The page in a real browser: Debian's chromium and its driver, where both are there."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from serve_runs import SEVEN, STROKES, cnn_run, photo, png_of, vgg16_run

pytest.importorskip("starlette", reason="starlette is not installed (the extra serve)")
pytest.importorskip("selenium", reason="selenium is not installed (the extra test)")
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    not (DRIVER and CHROMIUM), reason="chromium and chromium-driver are not installed"
)
ROOT = Path(__file__).parent.parent


def served(run):
    """The process that serves `run`, and its address."""
    command = [sys.executable, "-m", "experiments.serve", str(run), "--port", "0"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    server.stdout.readline()
    return server, server.stdout.readline().split()[0]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    server, address = served(cnn_run(tmp_path_factory.mktemp("cnn")))
    yield address
    server.kill()
    server.communicate()


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    look(chromium)
    yield chromium
    assert [said for said in chromium.get_log("browser") if said["level"] == "SEVERE"] == []


def look(driver, *, width=1100, height=1000, scheme="light", mobile=False):
    """The window's size, and the colours that its user prefers."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)


def opened(driver, address):
    driver.get(address)
    wait(driver, lambda: text(driver, "about"))


def wait(driver, true):
    return WebDriverWait(driver, 30, poll_frequency=0.05).until(lambda _: true())


def text(driver, name):
    return driver.find_element(By.ID, name).get_attribute("textContent")


def clear(driver):
    driver.find_element(By.ID, "clear").click()
    wait(driver, lambda: not text(driver, "answer"))


def draw(driver, strokes):
    """Strokes by the mouse, points in a square of 280."""
    sheet = driver.find_element(By.ID, "sheet")
    side = sheet.rect["width"]
    for points in strokes:
        mouse = ActionChains(driver, duration=20)
        for number, point in enumerate(points):
            x, y = (round((n / 280 - 0.5) * side) for n in point)
            mouse.move_to_element_with_offset(sheet, x, y)
            if not number:
                mouse.click_and_hold()
        mouse.release().perform()


def test_digits_drawn_by_mouse_are_read_while_they_are_drawn(browser, page):
    opened(browser, page)
    for digit in "0147":
        draw(browser, STROKES[digit])
        wait(browser, lambda digit=digit: text(browser, "answer") == digit)
        wait(browser, lambda digit=digit: text(browser, "said").startswith(f"{digit}, "))
        first = browser.find_element(By.CSS_SELECTOR, "#bars .first .name")
        assert first.text == digit
        clear(browser)
    # While the button is still held, the bars move already.
    sheet = browser.find_element(By.ID, "sheet")
    ActionChains(browser).move_to_element(sheet).click_and_hold().move_by_offset(0, 80).perform()
    wait(browser, lambda: text(browser, "answer"))
    ActionChains(browser).release().perform()


def test_what_is_inside_is_shown(browser, page):
    opened(browser, page)
    draw(browser, SEVEN)
    wait(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, "#nearest img")) == 3)
    assert "of 1,293 training images" in text(browser, "near-about")
    layers = browser.find_elements(By.CSS_SELECTOR, "#layers img")
    assert [layer.get_attribute("alt").split(" of ")[1] for layer in layers] == [
        "layer conv1, side by side",
        "layer conv2, side by side",
    ]
    wait(browser, lambda: text(browser, "where-about"))
    widths = "return [...document.querySelectorAll('#inside img')].map(i => i.naturalWidth)"
    assert all(wait(browser, lambda: browser.execute_script(widths)))


def test_two_digits_are_read_and_can_be_chosen(browser, page):
    opened(browser, page)
    half = [[(20 + x / 2.5, 60 + y / 2) for x, y in points] for points in SEVEN]
    draw(browser, [*half, [(210, 90), (210, 180)]])
    wait(browser, lambda: len(text(browser, "answer")) == 2)
    left, right = browser.find_elements(By.CSS_SELECTOR, "#characters button")
    assert left.get_attribute("aria-pressed") == "true"
    right.click()
    wait(browser, lambda: right.get_attribute("aria-pressed") == "true")
    wait(browser, lambda: browser.find_element(By.CSS_SELECTOR, "#bars .first .name").text
         == text(browser, "answer")[1])  # fmt: skip


def test_the_keyboard_alone_draws_undoes_and_clears(browser, page):
    opened(browser, page)
    keys = ActionChains(browser)
    keys.send_keys(Keys.TAB).perform()
    assert browser.switch_to.active_element.get_attribute("id") == "sheet"
    assert browser.find_element(By.ID, "pen").is_displayed()
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.execute_script(outline) == "solid"
    ActionChains(browser).send_keys(Keys.SPACE, *[Keys.ARROW_DOWN] * 20, Keys.SPACE).perform()
    wait(browser, lambda: text(browser, "answer") == "1")
    assert text(browser, "pen-said") == "Pen up"
    wait(browser, lambda: text(browser, "said").startswith("1, "))
    ActionChains(browser).send_keys("z").perform()
    wait(browser, lambda: text(browser, "answer") == "")
    ActionChains(browser).send_keys(Keys.SPACE, *[Keys.ARROW_UP] * 20, "c").perform()
    assert not browser.find_element(By.ID, "clear").is_enabled()
    ActionChains(browser).send_keys(Keys.TAB).perform()  # nobody is caught in the drawing area
    assert browser.switch_to.active_element.get_attribute("id") == "file"


DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
const given = new DataTransfer();
given.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
document.body.dispatchEvent(new DragEvent("drop", {bubbles: true, dataTransfer: given}));
"""


def test_a_picture_is_chosen_or_dropped(browser, page, tmp_path):
    import base64

    opened(browser, page)
    (tmp_path / "seven.jpg").write_bytes(png_of(SEVEN, kind="JPEG"))
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "seven.jpg"))
    wait(browser, lambda: text(browser, "answer") == "7")
    assert browser.find_element(By.ID, "photo").is_displayed()
    clear(browser)
    assert not browser.find_element(By.ID, "photo").is_displayed()
    browser.execute_script(DROP, base64.b64encode(png_of(STROKES["1"])).decode())
    wait(browser, lambda: text(browser, "answer") == "1")
    draw(browser, SEVEN)  # a stroke puts the picture away
    wait(browser, lambda: text(browser, "answer") == "7")
    (tmp_path / "none.png").write_bytes(b"no picture")
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "none.png"))
    wait(browser, lambda: "it is none" in text(browser, "trouble"))
    assert text(browser, "answer") == ""
    browser.get_log("browser")  # that a request was refused stands there


def contrast(first, second):
    def light(colour):
        parts = [int(n) / 255 for n in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        parts = [n / 12.92 if n <= 0.04045 else ((n + 0.055) / 1.055) ** 2.4 for n in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted([light(first), light(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_can_be_read(browser, page, scheme, tmp_path):
    look(browser, scheme=scheme)
    opened(browser, page)
    draw(browser, SEVEN)
    wait(browser, lambda: text(browser, "answer") == "7")
    colour = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    ground = browser.execute_script(colour, "body", "backgroundColor")
    assert (contrast(ground, "rgb(255, 255, 255)") > 10) == (scheme == "dark")
    for name in ("body", "#about", "#keys", "#bars .name", "#bars .first .name", "#sure"):
        assert contrast(browser.execute_script(colour, name, "color"), ground) >= 4.5, name
    mark = browser.execute_script(colour, "#bars .first i", "backgroundColor")
    assert contrast(mark, ground) >= 3
    assert browser.save_screenshot(str(tmp_path / f"{scheme}.png"))
    from PIL import Image

    shown = Image.open(tmp_path / f"{scheme}.png").convert("L")
    assert (shown.getpixel((5, 5)) < 60) == (scheme == "dark")  # type: ignore[operator]


def test_it_fits_a_phone(browser, page):
    look(browser, width=375, height=700, mobile=True)
    opened(browser, page)
    draw(browser, SEVEN)
    wait(browser, lambda: text(browser, "answer") == "7")
    wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#layers img"))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 375


def test_whoever_cannot_see_is_told_what_everything_is(browser, page):
    opened(browser, page)
    draw(browser, SEVEN)
    wait(browser, lambda: text(browser, "answer") == "7")
    browser.execute_cdp_cmd("Accessibility.enable", {})
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes
             if "role" in node and not node.get("ignored")}  # fmt: skip
    for role, name in [
        ("application", "Drawing area"),
        ("button", "Clear"),
        ("heading", "Draw a digit"),
        ("list", "Probability of each class"),
    ]:
        assert (role, name) in named  # fmt: skip
    assert any(role == "status" for role, _ in named)
    nameless = [role for role, name in named if role in ("button", "image", "textbox") and not name]
    assert not nameless


def test_a_photo_dropped_on_a_fine_tuned_network_shows_where_its_answer_comes_from(
    browser, tmp_path
):
    server, address = served(vgg16_run(tmp_path / "run"))
    try:
        opened(browser, address)
        assert text(browser, "title") == "Drop a photo"
        assert not browser.find_element(By.ID, "sheet").is_displayed()
        (tmp_path / "hen.png").write_bytes(photo())
        browser.find_element(By.ID, "file").send_keys(str(tmp_path / "hen.png"))
        wait(browser, lambda: text(browser, "answer") in ("cat", "dog", "<b>hen</b>"))
        wait(browser, lambda: text(browser, "where-about"))
        assert browser.find_element(By.ID, "heat").get_property("naturalWidth") == 32
        wait(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, "#layers img")) == 3)
    finally:
        server.kill()
        server.communicate()
    before = time.monotonic()
    browser.find_element(By.ID, "clear").click()
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "hen.png"))
    wait(browser, lambda: "does not answer" in text(browser, "trouble"))
    assert time.monotonic() - before < 60
    browser.get_log("browser")
