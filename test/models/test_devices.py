"""Devices that torch cannot use here, by every way that one is named."""
import subprocess

import pytest
import torch

from crossspec_ros import cli
from crossspec_ros.commands.devices import check_device
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import node_command, node_environment
from crossspec_ros.models.devices import find_device
from crossspec_ros.models.drafter import load_drafter

BAD = [f'cuda:{torch.cuda.device_count() + 7}', 'nonsense', 'meta', '', 'cpu:x']
if not torch.cuda.is_available():
    BAD.append('cuda')
if not torch.backends.mps.is_available():
    BAD.append('mps')


@pytest.mark.parametrize('device', BAD)
@pytest.mark.parametrize('ask', [find_device, lambda device: load_drafter(device=device)], ids=['torch', 'drafter'])
def test_device_that_is_not_here_is_told_in_one_line(ask, device):
    with pytest.raises(CrossSpecError, match='device must be one that torch can use here') as error:
        ask(device)
    assert repr(device) in str(error.value) and '\n' not in str(error.value)


def test_device_that_is_here_is_taken():
    assert find_device('cpu') == torch.device('cpu') and check_device('cpu') is None
    assert load_drafter(device='cpu').embed.weight.device.type == 'cpu'


@pytest.mark.parametrize('argv', [['demo', '--device', 'nonsense', '--no-open', '--out'],
                                  ['up', '--device', 'nonsense']], ids=lambda argv: argv[0])
def test_command_asks_for_the_device_before_it_starts_anything(argv, tmp_path, capsys):
    assert cli.main([*argv, str(tmp_path)] if argv[0] == 'demo' else argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "got 'nonsense'" in lines[0]


@pytest.mark.parametrize('node', ['drafter', 'verifier'])
def test_node_says_that_its_device_is_not_here(node):
    done = subprocess.run(node_command(node, {'model.device': 'nonsense'}), env=node_environment(domain_id=97),
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and 'Traceback' not in done.stderr + done.stdout
    assert "device must be one that torch can use here (cpu" in done.stderr + done.stdout
