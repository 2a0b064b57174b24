"""A package of somebody else, as an installer leaves it: a module, and what its entry points say."""
from __future__ import annotations

import sys
from pathlib import Path


def install_lab(folder: Path, monkeypatch, code: str, entries: str, module: str = 'lab_drafts') -> None:
    """Write it and put its folder on the path. ``entries``: lines of entry_points.txt."""
    (folder / f'{module}.py').write_text(code, encoding='utf-8')
    info = folder / f'{module}-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n', encoding='utf-8')
    (info / 'entry_points.txt').write_text(entries, encoding='utf-8')
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, module, raising=False)
