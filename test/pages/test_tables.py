"""Every table of docs/ that the program declares is as it declares it."""
import importlib
from pathlib import Path

import pytest
import tables

from crossspec_ros.config import NODES, parameters_of

HOW = 'run python test/pages/tables.py'
RENDERED = tables.rendered()


def test_every_table_stands_on_one_page():
    names = [name for page in tables.pages() for name in tables.blocks(page)]
    assert sorted(names) == sorted(RENDERED), HOW


@pytest.mark.parametrize('page', [page for page in tables.pages() if tables.blocks(page)],
                         ids=lambda page: str(page.relative_to(tables.DOCS)))
def test_tables_are_as_declared(page):
    for name, text in tables.blocks(page).items():
        assert text == tables.block(name, RENDERED), f'{name} is not as declared: {HOW}'


def test_write_leaves_a_page_that_is_right_alone_and_mends_one_that_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, 'DOCS', tmp_path)
    page = tmp_path / 'page.md'
    page.write_text('a\n<!-- table: topics -->\nold\n<!-- end table -->\nb\n', encoding='utf-8')
    assert tables.write() == [page] and tables.write() == []
    text = page.read_text(encoding='utf-8')
    assert tables.topics() in text and 'old' not in text and text.startswith('a\n') and text.endswith('\nb\n')


def test_a_parameter_has_its_row():
    for node in NODES:
        for info in parameters_of(NODES[node]):
            assert f'| `{info.name}` |' in RENDERED[f'parameters {node}']


def test_topics_and_services_of_the_nodes_are_in_the_tables():
    topics, services = tables.used_in_nodes()
    assert len(topics) > 8 and len(services) > 6
    assert topics <= {each.name for each in tables.TOPICS}, 'add a row to TOPICS of test/pages/tables.py'
    assert services == {(each.name, each.type.rsplit('/')[-1]) for each in tables.SERVICES}, \
        'add a row to SERVICES of test/pages/tables.py'


def test_topics_of_the_tables_are_used_by_a_node():
    sources = sorted((tables.ROOT / 'crossspec_ros' / 'nodes').glob('*.py'))
    nodes = '\n'.join(path.read_text(encoding='utf-8') for path in sources)
    for topic in tables.TOPICS:
        name = topic.name.replace('keeper/', '~/')
        assert f"'{name}'" in nodes, f'no node names the topic {name}'


@pytest.mark.parametrize('each', [*tables.TOPICS, *tables.SERVICES], ids=lambda each: each.name)
def test_types_of_the_tables_exist(each):
    package, name = each.type.split('/')
    if package in ('rviz_2d_overlay_msgs', 'foxglove_msgs'):
        pytest.importorskip(package, reason=f'{package} is not installed here')
    homes = [importlib.import_module(f'{package}.{kind}') for kind in ('msg', 'srv', 'action')
             if importlib.util.find_spec(f'{package}.{kind}')]
    assert any(hasattr(home, name) for home in homes)


def test_interface_without_a_remark_and_with_a_constant(tmp_path):
    path = tmp_path / 'Odd.msg'
    path.write_text('# What it is.\n\nuint8 ONE=1   # first | only\nstring[] names\n', encoding='utf-8')
    assert tables.interface(path) == ('What it is.\n\n| Field | Type | Meaning |\n| --- | --- | --- |\n'
                                      '| `ONE = 1` | `uint8` | first \\| only |\n| `names` | `string[]` |  |')


def test_command_tables_name_every_option():
    assert '| `--image-reliability {best_effort,reliable}` |' in RENDERED['command up']
    assert '### crossspec bag cut' in RENDERED['command bag']
    assert '### crossspec bench stream' in RENDERED['command bench']
    assert '`--rgb FOLDER or FILM`' in RENDERED['command events']
    home = str(Path.home())
    assert not any(home in text for text in RENDERED.values()), 'a default is of this machine'
