"""Every link between our pages leads somewhere, and pages need nothing from other sites."""

import functools
import html.parser
import importlib
import re
import urllib.parse
import zlib

import pytest

# What a browser fetches by itself to show a page; an `a` it only follows when asked to.
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
LOADED_LINKS = {"stylesheet", "icon", "preload", "manifest"}


class Parser(html.parser.HTMLParser):
    """Collects what a page links to, what it loads, and the names of its parts."""

    def __init__(self):
        super().__init__()
        self.links, self.loaded, self.names = [], [], set()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.names.update(value for key, value in attrs if key in ("id", "name") and value)
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        address = attributes.get(LOADED.get(tag))
        if address and (tag != "link" or LOADED_LINKS & set(attributes.get("rel", "").split())):
            self.loaded.append(address)


@functools.cache
def parsed(path):
    parser = Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def is_elsewhere(address):
    return bool(re.match(r"[a-z]+:|//", address))


def test_links_lead_to_our_pages(built, page):
    broken = []
    for link in parsed(built / page).links:
        if is_elsewhere(link):
            continue
        address, _, fragment = link.partition("#")
        target = (built / page).parent / urllib.parse.unquote(address) if address else built / page
        target = target.resolve()
        if not target.is_file():
            broken.append(f"{link}: there is no such file")
        elif fragment and urllib.parse.unquote(fragment) not in parsed(target).names:
            broken.append(f"{link}: the page has no such part")
    assert not broken, "\n".join(broken)


def test_pages_load_nothing_from_other_sites(built, page):
    assert [address for address in parsed(built / page).loaded if is_elsewhere(address)] == []


def test_what_pages_load_is_there(built, page):
    missing = [
        address
        for address in parsed(built / page).loaded
        if not is_elsewhere(address)
        and not ((built / page).parent / address.partition("?")[0].partition("#")[0]).is_file()
    ]
    assert not missing


def test_styles_load_nothing_from_other_sites(built):
    for path in built.rglob("*.css"):
        addresses = re.findall(
            r"url\(['\"]?([^'\")]+)|@import ['\"]([^'\"]+)", path.read_text(encoding="utf-8")
        )
        elsewhere = [each for pair in addresses for each in pair if each.startswith(("http", "//"))]
        assert not elsewhere, path


def test_no_example_printed_a_warning_or_an_error(built, page):
    text = (built / page).read_text(encoding="utf-8")
    assert "output stderr" not in text
    assert "Traceback (most recent call last)" not in text


@pytest.mark.parametrize(
    "module",
    [
        "keras_spiking",
        "keras_spiking.layers",
        "keras_spiking.regularizers",
        "keras_spiking.constraints",
        "keras_spiking.callbacks",
        "keras_spiking.conversion",
        "keras_spiking.energy",
        "keras_spiking.recording",
        "keras_spiking.visualization",
        "keras_spiking.pytorch",
        "keras_spiking.config",
    ],
)
def test_the_reference_has_every_public_object(built, module):
    documented = inventory(built / "objects.inv")
    package = importlib.import_module(module)
    names = getattr(package, "__all__", None) or [
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    missing = []
    for name in names:
        value = getattr(package, name)
        at_the_top = f"keras_spiking.{name}"
        if type(value).__name__ == "module" or name == "Default":  # `default` stands for it
            continue
        if not {f"{module}.{name}", at_the_top} & documented:
            missing.append(name)
    assert not missing


def inventory(path):
    """The names of Python objects that a built reference describes."""
    header, _, packed = path.read_bytes().partition(b"zlib.\n")
    assert header.startswith(b"# Sphinx inventory version 2")
    lines = zlib.decompress(packed).decode().splitlines()
    return {line.split(" ")[0] for line in lines if " py:" in line}
