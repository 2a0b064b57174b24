"""The site is built from docs/ without a warning; its links and those of the plain files lead somewhere."""
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
_LOADED = {('link', 'href'), ('script', 'src'), ('img', 'src'), ('iframe', 'src'), ('source', 'src')}


class Page(HTMLParser):
    """What a built page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ('id', 'name') and value:
                self.anchors.add(value)
            if tag == 'a' and name == 'href' and value:
                self.links.append(value)
            if (tag, name) in _LOADED and value and ('rel', 'canonical') not in attrs:
                self.loaded.append(value)


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    """The built site. Nothing is fetched: whatever asks for a proxy finds none."""
    pytest.importorskip('material', reason='mkdocs-material is not installed here')
    folder = tmp_path_factory.mktemp('site')
    nowhere = dict.fromkeys(('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'), 'http://127.0.0.1:9')
    done = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(folder)],
                          cwd=ROOT, env={**os.environ, **nowhere, 'NO_MKDOCS_2_WARNING': '1'}, capture_output=True,
                          text=True, timeout=240)
    assert done.returncode == 0 and 'WARNING' not in done.stderr, done.stdout + done.stderr
    return folder


def _elsewhere(address: str) -> bool:
    return bool(urlsplit(address).scheme or urlsplit(address).netloc)


def test_links_and_anchors_of_the_site_lead_somewhere(site):
    pages = {path: Page(path) for path in site.rglob('*.html')}
    assert len(pages) > 15
    for path, page in pages.items():
        for link in page.links + page.loaded:
            if _elsewhere(link) or link.startswith('#__') or path.name == '404.html':
                continue
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / 'index.html' if target.is_dir() else target
            assert target.exists(), f'{path.name} links to {link}'
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, f'{path.name} links to {link}'


def test_site_loads_nothing_from_elsewhere(site):
    for path in site.rglob('*.html'):
        assert not [each for each in Page(path).loaded if _elsewhere(each) and not each.startswith('data:')], path.name
    for path in site.rglob('*.css'):
        found = re.findall(r'(?:@import|url\()\s*["\']?(?:https?:)?//[^"\')\s]+', path.read_text(encoding='utf-8'))
        assert not found, f'{path.name} loads {found}'


def test_every_page_is_in_the_site(site):
    for page in PAGES[1:]:
        assert (site / page.relative_to(ROOT / 'docs')).with_suffix('.html').exists(), page


def _plain(text: str) -> str:
    """Markdown without its blocks of code, in which nothing is a link or a heading."""
    return re.sub(r'^```.*?^```', '', text, flags=re.S | re.M)


def _places(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub names them: small, without signs, spaces as dashes."""
    heads = re.findall(r'^#+ (.+)$', _plain(page.read_text(encoding='utf-8')), re.M)
    return {re.sub(r'[^\w\- ]', '', head.strip().lower()).replace(' ', '-') for head in heads}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_plain_files_lead_somewhere(page):
    text = re.sub(r'`[^`\n]*`', '', _plain(page.read_text(encoding='utf-8')))
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        if _elsewhere(link):
            continue
        path, _, place = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f'{page.name} links to {link}'
        assert not place or place in _places(target), f'{page.name} links to {link}: no such heading'


def test_pictures_can_be_read_on_dark_ground_and_say_what_they_show():
    drawn = sorted((ROOT / 'docs').glob('*.svg'))
    assert len(drawn) >= 5
    for path in drawn:
        text = path.read_text(encoding='utf-8')
        assert '<title>' in text and '<rect width="' in text and 'http' not in text.replace('http://www.w3.org', '')


def test_readme_is_short():
    assert len((ROOT / 'README.md').read_text(encoding='utf-8').splitlines()) <= 250
