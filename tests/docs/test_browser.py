"""The built documentation as a reader sees it, in a headless browser, on a desk and on a phone."""

import functools
import http.server
import json
import shutil
import threading
from urllib.parse import urlsplit

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SCREENS = {"desk": (1280, 900), "phone": (390, 844)}
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars
    --disable-background-networking --disable-component-update --disable-sync
    --disable-dev-shm-usage"""


@pytest.fixture(scope="session")
def site(built):
    """The address of a server of the built pages."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=built)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser(built, tmp_path_factory):
    if BROWSER is None or DRIVER is None:
        pytest.skip("no chromium or no chromedriver here (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(params=SCREENS)
def screen(request, browser):
    width, height = SCREENS[request.param]
    on_phone = request.param == "phone"
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": on_phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    return request.param


def test_pages_show_without_fault(browser, screen, site, page):
    clear_logs(browser)
    browser.get(f"{site}/{page}")
    wait_for_formulas(browser)
    assert errors(browser) == []
    assert [address for address in requests(browser) if not address.startswith(f"{site}/")] == []
    assert faults_of_images(browser) == []
    empty = browser.execute_script(
        "return [...document.querySelectorAll('.cell_output')]"
        ".filter(e => !e.innerText.trim() && !e.querySelector('img, svg, table')).length"
    )
    assert empty == 0
    wide = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide[0] <= wide[1], f"scrolls sideways: {widest(browser)}"


def test_navigation_leads_through_every_page(browser, screen, site, built):
    """The arrow to the next page, from the first to the last."""
    browser.get(f"{site}/index.html")
    seen = [browser.title]
    while links := browser.find_elements(By.CSS_SELECTOR, "a.next-page"):
        address = links[0].get_attribute("href")
        follow(links[0])
        WebDriverWait(browser, 20).until(lambda driver, to=address: driver.current_url == to)
        seen.append(browser.title)
        assert browser.find_element(By.CSS_SELECTOR, "article h1").is_displayed()
        assert len(seen) < 200, "it goes in a circle"
    # All but the index of names and the search, which stand outside the order.
    assert len(seen) > 20


def test_the_sidebar_opens_a_page(browser, screen, site):
    browser.get(f"{site}/index.html")
    if screen == "phone":
        browser.find_element(By.CSS_SELECTOR, "header .nav-overlay-icon").click()
    link = browser.find_element(By.CSS_SELECTOR, ".sidebar-tree a[href='getting_started.html']")
    WebDriverWait(browser, 10).until(lambda driver: link.is_displayed())
    follow(link)
    WebDriverWait(browser, 20).until(lambda driver: "getting_started" in driver.current_url)
    assert "Getting started" in browser.find_element(By.CSS_SELECTOR, "article h1").text


def test_the_search_finds_a_class_and_opens_it(browser, screen, site):
    browser.get(f"{site}/index.html")
    if screen == "phone":
        browser.find_element(By.CSS_SELECTOR, "header .nav-overlay-icon").click()
    field = browser.find_element(By.CSS_SELECTOR, ".sidebar-search")
    WebDriverWait(browser, 10).until(lambda driver: field.is_displayed())
    field.send_keys("Lowpass", Keys.ENTER)
    results = WebDriverWait(browser, 30).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "#search-results li a")
    )
    found = next(each for each in results if each.text == "keras_spiking.Lowpass")
    follow(found)
    WebDriverWait(browser, 20).until(lambda driver: "api/layers.html" in driver.current_url)
    name = browser.find_element(By.ID, "keras_spiking.Lowpass")
    assert "Lowpass" in name.text


def test_code_has_a_button_that_copies(browser, site):
    browser.get(f"{site}/getting_started.html")
    assert browser.find_elements(By.CSS_SELECTOR, "button.copybtn")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_paper(browser, site, scheme):
    """The ratio of contrast that the W3C asks for, 4.5, in both colour schemes."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(f"{site}/guide/spikes.html")
    ink, paper = browser.execute_script(
        "return [getComputedStyle(document.querySelector('article p')).color,"
        " getComputedStyle(document.body).backgroundColor]"
    )
    darker, lighter = sorted(map(luminance, (ink, paper)))
    assert (lighter + 0.05) / (darker + 0.05) > 4.5
    assert (luminance(paper) < 0.5) == (scheme == "dark")


def luminance(colour):
    """Relative luminance, as WCAG 2 defines it, of `rgb(r, g, b)`."""
    channels = [float(each) / 255 for each in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(part * each for part, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def follow(link):
    """By its key, as a click would miss what formulas or results that still arrive push down."""
    link.send_keys(Keys.ENTER)


def clear_logs(browser):
    browser.get_log("browser")
    browser.get_log("performance")


def wait_for_formulas(browser):
    """Formulas are set when the page is there; without any this returns at once."""
    browser.execute_async_script(
        "const done = arguments[0];"
        "const ready = window.MathJax && MathJax.startup && MathJax.startup.promise;"
        "Promise.resolve(ready).then(() => document.fonts.ready).then(() => done())"
    )
    unset = browser.execute_script(
        "return [...document.querySelectorAll('.math')]"
        ".filter(e => !e.querySelector('mjx-container') || e.querySelector('mjx-merror')).length"
    )
    assert unset == 0, "a formula was not set"


def errors(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def requests(browser):
    """Every address that the page asked for; those that failed are errors of the test."""
    addresses, failed = [], []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        parameters = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            addresses.append(parameters["request"]["url"])
        elif message["method"] == "Network.loadingFailed":
            failed.append(parameters["errorText"])
        elif parameters.get("response", {}).get("status", 200) >= 400:
            failed.append(parameters["response"]["url"])
    assert not failed
    return [each for each in addresses if urlsplit(each).scheme not in ("data", "blob", "chrome")]


def faults_of_images(browser):
    """Images that did not load. Those off the screen load late, so they are asked to load now."""
    return browser.execute_async_script(
        "const done = arguments[0]; const images = [...document.images];"
        "images.forEach(image => { image.loading = 'eager'; });"
        "Promise.all(images.map(image => image.decode().catch(() => null)))"
        ".then(() => done(images.filter(i => !i.complete || !i.naturalWidth).map(i => i.src)))"
    )


def widest(browser):
    """The innermost elements that reach beyond the screen."""
    return browser.execute_script(
        "const width = document.documentElement.clientWidth;"
        "return [...document.querySelectorAll('article *')]"
        ".filter(e => e.getBoundingClientRect().right > width + 1)"
        ".slice(0, 5).map(e => e.tagName + '.' + e.className + ' ' + e.innerText.slice(0, 40))"
    )
