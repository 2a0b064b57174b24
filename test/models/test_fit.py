"""What a checkpoint takes, said before it is loaded, against what it takes once it is; and what does not fit."""
from __future__ import annotations

import json
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tiny_models
from crossspec_ros import cli
from crossspec_ros.bench import fit as bench
from crossspec_ros.config import VerifierConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import fit, quantization
from crossspec_ros.models.fit import GB, Serving, advice, check_fit, need, read_shapes, survey
from crossspec_ros.models.targets import load, load_target
from crossspec_ros.models.targets.decoding import NO_TREE
from crossspec_ros.pipeline.building import load_model
from families import write_family
from quantised import library_of, wide
from target_driving import frames_of, padded, prompt_rows

QUESTION = 'What is it?'
SERVING = Serving(frames=4, max_new_tokens=16, first_nodes=8, size=(60, 80), prompt=QUESTION)


class Peak(TorchDispatchMode):
    """Bytes of storages that operations make inside, at the most at one time."""

    def __init__(self):
        super().__init__()
        self.now, self.most, self._known = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {one.untyped_storage().data_ptr() for one in tree_leaves((args, kwargs))
                 if isinstance(one, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor):
                storage = one.untyped_storage()
                if storage.data_ptr() not in given and id(storage) not in self._known:
                    self._add(storage)
        return made

    def _add(self, storage):
        key, size = id(storage), storage.nbytes()
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key, size):
        self._known.discard(key)
        self.now -= size


@pytest.mark.parametrize('name', ['builtin', 'video_llava', 'qwen3_vl', 'gemma3', 'idefics3', 'molmo2'])
def test_weights_keys_and_prompt_are_those_of_the_loaded_model(tmp_path, name):
    path = name if name == 'builtin' else write_family(tmp_path / name, name, seed=3)
    shapes, target = read_shapes(path), load_target(path)
    told = need(shapes, SERVING, 'cpu', torch.float32)
    layout = target.layout(QUESTION, 4, 60, 80)
    cache = target.new_cache(layout, layout.length)
    target.extend(cache, layout.tail)
    assert told.weights == quantization.stored_bytes(target.model) and told.tokens == layout.length
    assert told.windows == 2 * cache.bytes_a_token * (layout.length + 16 + 8 + 1)
    half = need(shapes, SERVING, 'cpu', torch.bfloat16)
    assert 2 * half.weights == told.weights and 2 * half.windows == told.windows and half.tokens == told.tokens


@pytest.mark.parametrize('kind', ['int8', 'dynamic', 'nf4'])
def test_quantised_weights_take_what_was_told(tmp_path, kind):
    library_of(kind)
    folder = wide(tmp_path / 'wide')
    told = read_shapes(folder).weights(4, kind)
    taken = quantization.stored_bytes(load_target(folder, quantization=kind).model)
    assert told < read_shapes(folder).weights(4) and abs(told - taken) < 0.02 * taken      # tables of nf4, buffers


@pytest.mark.parametrize('hidden, layers', [(128, 2), (256, 4)])
def test_a_forward_takes_no_more_than_was_told_and_not_much_less(tmp_path, hidden, layers):
    folder = tiny_models.write_checkpoint(tmp_path / 'wide', seed=3, hidden=hidden, layers=layers, vocab_size=2000)
    target = load_target(folder, lean=False)
    layout = target.layout(QUESTION, 4, 60, 80)
    rows = torch.cat(prompt_rows(target, layout, frames_of(1, 4, 60, 80)))
    cache, shapes = target.new_cache(layout, layout.length), read_shapes(folder)
    with torch.inference_mode(), Peak() as peak:
        target.states(cache, rows, NO_TREE)
    taken = peak.most - cache.bytes_a_token * layout.length               # its buffers are not the forward's
    assert 0 < taken <= shapes.forward(layout.length, layout.length, 4) < 8 * taken


def test_captured_passes_are_counted_where_they_are_taken(tmp_path):
    folder = wide(tmp_path / 'wide')
    shapes, target = read_shapes(folder), padded(load_target(folder))
    layout = target.layout(QUESTION, 4, 60, 80)
    cache = target.new_cache(layout, layout.length + 16 + 8 + 1)
    told = need(shapes, Serving(**vars(SERVING) | {'padded': True}), 'cuda', torch.float32)
    target.extend(cache, layout.tail)
    assert told.windows == 2 * cache.bytes_a_token * cache.capacity and told.steps > 0
    assert need(shapes, SERVING, 'cpu', torch.float32).steps == 0


def test_more_frames_tokens_and_windows_take_more(tmp_path):
    shapes = read_shapes(write_family(tmp_path / 'tiny', 'qwen3_vl', seed=3))
    least = need(shapes, SERVING, 'cpu', torch.float32)
    for change in ({'frames': 8}, {'max_new_tokens': 64}, {'windows': 3}, {'size': (120, 160)}):
        more = need(shapes, Serving(**vars(SERVING) | change), 'cpu', torch.float32)
        assert more.total > least.total and more.weights == least.weights


def no_load(*args, **options):
    raise AssertionError('nothing may be loaded')


def test_what_does_not_fit_is_refused_by_name_before_it_is_loaded(tmp_path, monkeypatch):
    folder = wide(tmp_path / 'wide')
    monkeypatch.setattr(load.loading, 'load_model', no_load)
    monkeypatch.setattr(fit, 'room_of', lambda device: 200_000)
    config = VerifierConfig(model=str(folder), prompt=QUESTION)
    for asks in (lambda: load_model(config), lambda: check_fit(folder, SERVING, 'cpu', 'auto')):
        with pytest.raises(CrossSpecError, match='VideoLlava.* does not fit cpu: it takes .* weights.* are free; use'):
            asks()
    assert cli.main(['model', 'check', str(folder), '--size', '80x60', '--frames', '4']) == 1
    total = need(read_shapes(folder), SERVING, 'cpu', torch.float32)
    monkeypatch.setattr(fit, 'room_of', lambda device: total.total - int(total.process) + 1)
    check_fit(folder, SERVING, 'cpu', 'auto')
    with pytest.raises(CrossSpecError, match='does not fit'):
        check_fit(folder, Serving(**vars(SERVING) | {'frames': 16}), 'cpu', 'auto')


def test_what_is_small_beside_the_memory_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(fit, 'read_shapes', no_load)
    check_fit('builtin', Serving(), 'cpu', 'auto')


def test_advice_names_a_way_that_fits_then_fewer_frames_then_another_model(tmp_path):
    found = survey(read_shapes(wide(tmp_path / 'wide', layers=4)), SERVING, 'cpu')
    assert list(found) == ['float32', 'int8', 'nf4', 'dynamic']
    assert advice(found, found['int8'].total, 'float32') == 'it would as int8 or nf4 or dynamic'
    assert 'fewer frames' in advice(found, found['nf4'].weights + found['nf4'].process + 1, 'float32')
    assert 'smaller model' in advice(found, 1, 'float32')


@pytest.mark.parametrize('options, code, said', [
    pytest.param(['--memory', '2'], 0, 'bfloat16', id='fits'),
    pytest.param(['--memory', '0.5'], 1, 'does not fit 0.5 GB', id='too small'),
    pytest.param(['--memory', '2', '--device', 'cpu', '--quantization', 'int8'], 0, 'int8 fits', id='int8'),
    pytest.param(['--memory', '2', '--quantization', 'int4'], 1, 'divisible by 128', id='layers'),
    pytest.param(['--memory', '2', '--device', 'cpu', '--quantization', 'int4'], 1, 'runs on cuda', id='device'),
    pytest.param(['--memory', '0'], 1, 'must be > 0', id='none')])
def test_command_says_what_fits_and_loads_nothing(tmp_path, monkeypatch, capsys, options, code, said):
    folder = wide(tmp_path / 'wide', context=1024)
    monkeypatch.setattr(load.loading, 'load_model', no_load)
    assert cli.main(['model', 'check', str(folder), *options]) == code
    assert said in capsys.readouterr().out
    assert cli.main(['model', 'check', str(folder), *options, '--json']) == code
    report = json.loads(capsys.readouterr().out)
    assert (report['refused'] is None) == (code == 0)


def test_real_shapes_are_as_large_as_their_checkpoints_and_fit_where_people_put_them(capsys, monkeypatch):
    sizes = {'Video-LLaVA 7B': ('float16', 14.7), 'Qwen3-VL 2B': ('bfloat16', 4.26)}
    for name, (own, published) in sizes.items():
        ways = bench.count(name)
        assert ways[own].weights / GB == pytest.approx(published, rel=0.02)
        assert ways[own].weights > ways['int8'].weights > ways['nf4'].weights > ways['int4'].weights
        assert ways['int4'].total < (8 if '2B' in name else 24) * GB
    assert cli.main(['bench', 'fit', '--memory', 'x']) != 0
    for name in set(bench.MODELS) - {'LLaVA-OneVision 0.5B'}:
        monkeypatch.delitem(bench.MODELS, name)
    assert cli.main(['bench', 'fit', '--json']) == 0
    assert json.loads(capsys.readouterr().out).keys() == bench.MODELS.keys()
