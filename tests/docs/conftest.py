"""The built documentation: skipped, with the reason, where there is none."""

import pathlib

import pytest

BUILT = pathlib.Path(__file__).parents[2] / "docs" / "_build" / "html"


@pytest.fixture(scope="session")
def built():
    if not (BUILT / "index.html").exists():
        pytest.skip(f"no built documentation in {BUILT}: run `make docs` first")
    return BUILT


def pytest_generate_tests(metafunc):
    """A test that takes a page runs for every built one."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", page_names() or ["no page is built"])


def page_names():
    """Every page, as a path from the root of the site."""
    return sorted(
        path.relative_to(BUILT).as_posix()
        for path in BUILT.rglob("*.html")
        if "_static" not in path.parts
    )
