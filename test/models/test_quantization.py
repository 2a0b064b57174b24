"""Quantised weights: captions are those of the quantised model's own `generate`; what cannot be is refused by name."""
from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from crossspec_ros import graph
from crossspec_ros.config import QUANTIZATIONS
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import loading, quantization as room
from crossspec_ros.models.targets import load_target
from crossspec_ros.pipeline.checking import CheckOptions, check_target
from engine_harness import QUESTION, caption_of, clip_of, draft_of, make_engine
from families import write_family
from families.oracle import answer, load
from quantised import library_of, wide
from target_driving import frames_of

OPTIONS = CheckOptions(clips=3, frames=4, max_new_tokens=12, height=60, width=80)
CPU, CUDA = torch.device('cpu'), torch.device('cuda')


def quantise_again(model, kind):
    """A model of transformers, its decoder's layers quantised by the library's own call."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_
    config = Int8WeightOnlyConfig() if kind == 'int8' else Int8DynamicActivationInt8WeightConfig()
    quantize_(model.get_decoder().layers, config)
    return model


def test_names_of_kinds_are_those_of_the_parameter_and_of_the_launch_argument():
    assert QUANTIZATIONS == room.KIND_NAMES
    argument = next(one for one in graph.ARGUMENTS if one.name == 'quantization')
    assert argument.choices == ('none', 'float32', 'float16', 'bfloat16', *room.KINDS)
    chosen = {}
    for value in ('nf4', 'bfloat16', 'none'):
        spec = next(one for one in graph.declare({'quantization': value}) if one.name == 'verifier')
        chosen[value] = {name: spec.parameters.get(f'model.{name}') for name in ('dtype', 'quantization')}
    assert chosen == {'nf4': {'dtype': None, 'quantization': 'nf4'}, 'none': {'dtype': None, 'quantization': None},
                      'bfloat16': {'dtype': 'bfloat16', 'quantization': None}}


@pytest.mark.parametrize('cache', ['dynamic', 'padded'])
@pytest.mark.parametrize('name, kind', [('video_llava', 'int8'), ('qwen3_vl', 'int8'), ('wide', 'nf4'),
                                        pytest.param('llava_onevision', 'int8', marks=pytest.mark.long),
                                        pytest.param('gemma3', 'int8', marks=pytest.mark.long)])
def test_captions_are_those_of_the_quantised_models_own_generate(tmp_path, name, kind, cache):
    library_of(kind)
    folder = wide(tmp_path / name) if name == 'wide' else write_family(tmp_path / name, name, seed=3)
    target = load_target(folder, quantization=kind, cache=cache)
    assert check_target(target, OPTIONS).exact and target.abilities.trees and not target.abilities.coarse
    assert not target.forwards['padded_refused'] and bool(target.sizes) == (cache == 'padded')
    assert make_engine(target).judgeable


@pytest.mark.parametrize('name', ['video_llava', 'qwen3_vl'])
def test_the_quantised_model_is_what_the_library_itself_makes_of_it(tmp_path, name):
    library_of('int8')
    folder = write_family(tmp_path / name, name, seed=3)
    model, processor = load(folder)
    quantise_again(model, 'int8')
    target = load_target(folder, quantization='int8')
    for seed in range(3):
        frames = frames_of(seed, 4, 60, 80)
        expected = answer(model, processor, frames, QUESTION, 12, suppress=target.banned_ids)
        assert target.generate(frames, QUESTION, 12) == expected
    quantised, plain = (room.layers_of(one.model) for one in (target, load_target(folder)))
    assert room.stored_bytes(quantised) < 0.5 * room.stored_bytes(plain)
    assert target.adapter.head.weight.dtype is torch.float32 and type(target.adapter.head.weight) is nn.Parameter


def test_rounded_activations_are_judged_as_16_bits_and_certified_by_shape(tmp_path):
    library_of('dynamic')
    target = load_target(wide(tmp_path / 'wide', layers=3, spread=0.2), quantization='dynamic')
    assert target.dtype is torch.float32 and target.abilities.coarse and 'rounded' in target.abilities.notes[-1]
    assert not make_engine(target).judgeable
    generator = np.random.default_rng(5)
    clips = [clip_of(generator) for _ in range(6)]
    alone = make_engine(target, exactness='certified', speculate=False)
    expected = [caption_of(alone, window, clip) for window, clip in enumerate(clips)]
    engine = make_engine(target, exactness='certified')
    accepted = 0
    for window, (clip, caption) in enumerate(zip(clips, expected)):
        tokens = [token + (place % 4 == 3) for place, token in enumerate(caption.token_ids)]
        engine.offer(draft_of(target, window, tokens))
        said = caption_of(engine, window, clip)
        assert said.token_ids == caption.token_ids and said.exact and said.lossless
        accepted += said.accepted
    assert accepted > 0


def test_scales_over_a_whole_forward_are_refused(tmp_path, monkeypatch):
    library_of('dynamic')

    def tensorwise(dtype):
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, PerTensor
        return Int8DynamicActivationInt8WeightConfig(granularity=PerTensor(), set_inductor_config=False)
    monkeypatch.setitem(room.KINDS, 'dynamic', dataclasses.replace(room.KINDS['dynamic'], make=tensorwise))
    with pytest.raises(CrossSpecError, match='q_proj .* must round rows one by one'):
        load_target(wide(tmp_path / 'wide'), quantization='dynamic')


class Loud(nn.Linear):
    """A layer whose scale follows the loudest row of a forward."""

    def forward(self, rows):
        scale = rows.abs().max() / 127
        return super().forward((rows / scale).round() * scale)


def decoder_of(*layers, dtype=torch.float32):
    """A model around layers, as far as `quantization` looks at one."""
    inner = nn.Module()
    inner.layers = nn.ModuleList(layers)
    model = nn.Module()
    model.tower, model.inner, model.get_decoder = nn.Linear(8, 8), inner, lambda: inner
    model.device, model.dtype = CPU, dtype
    return model


def test_rows_that_hang_on_each_other_are_found_in_any_layer(tmp_path):
    room.check_rows(decoder_of(nn.Sequential(nn.Linear(256, 64), nn.Linear(64, 64))), tmp_path)
    with pytest.raises(CrossSpecError, match='layer 1 .* must round rows one by one'):
        room.check_rows(decoder_of(nn.Sequential(nn.Linear(256, 64), Loud(64, 64))), tmp_path)


def test_a_layer_that_makes_no_numbers_is_no_layer_of_its_own_rows(tmp_path):
    broken, silent = nn.Linear(64, 64), nn.Linear(64, 64)
    nn.init.constant_(broken.weight, float('nan'))
    for parameter in silent.parameters():
        nn.init.zeros_(parameter)
    room.check_rows(decoder_of(nn.Sequential(silent)), tmp_path)
    with pytest.raises(CrossSpecError, match='must round rows one by one'):
        room.check_rows(decoder_of(nn.Sequential(broken)), tmp_path)


def test_only_the_layers_of_the_decoder_are_quantised():
    model = decoder_of(nn.Sequential(nn.Linear(256, 64)))
    model.inner.norm, model.lm_head = nn.LayerNorm(4), nn.Linear(4, 4)
    assert list(room.outside(model)) == ['tower', 'inner.norm', 'lm_head']
    assert list(room.linear_shapes(model)) == [('0.0', (64, 256))]


class Experts(nn.Module):
    """Weights of several experts in one parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 64, 64))


@pytest.mark.parametrize('kind, model, said', [
    pytest.param('int8', lambda: decoder_of(nn.Sequential(nn.Linear(64, 64), Experts())),
                 'got 19% of the decoder\'s there and the rest in Experts', id='experts'),
    pytest.param('int4', lambda: decoder_of(nn.Linear(192, 64)), 'divisible by 128, got 192', id='int4 widths'),
    pytest.param('nf4', lambda: decoder_of(nn.Linear(96, 64)), 'divisible by 64, got 96 .* use int8', id='nf4 widths'),
    pytest.param('int8', lambda: SimpleNamespace(get_decoder=lambda: nn.Linear(4, 4)), 'must have its layers in a row',
                 id='no layers')])
def test_layers_that_cannot_be_quantised_are_refused(kind, model, said):
    with pytest.raises(CrossSpecError, match=said):
        room.check_layers(kind, model())


def with_config(folder, **quantised):
    """A folder whose config.json says that its weights are quantised."""
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps({'quantization_config': quantised} if quantised else {}))
    return folder


@pytest.mark.parametrize('kind, device, quantised, said', [
    pytest.param('int3', CPU, {}, 'must be one of none, int8, int4, nf4, dynamic, got \'int3\'', id='name'),
    pytest.param('int4', CPU, {}, 'runs on cuda devices, got cpu; use one of int8, nf4, dynamic, none', id='int4 cpu'),
    pytest.param('dynamic', CUDA, {}, 'runs on cpu devices, got cuda; use one of int8, int4, nf4', id='dynamic cuda'),
    pytest.param('int8', CPU, {'quant_method': 'gptq'}, 'for weights that are quantised already, got int8 for gptq',
                 id='gptq'),
    pytest.param('nf4', CPU, {'quant_method': 'bitsandbytes', 'load_in_4bit': True}, 'got nf4 for bitsandbytes',
                 id='bnb'),
    pytest.param('none', CPU, {'quant_method': 'bitsandbytes', 'load_in_8bit': True},
                 'picks columns by all rows of a forward', id='bnb 8 bit')])
def test_what_cannot_be_quantised_so_is_refused_by_name(tmp_path, kind, device, quantised, said):
    with pytest.raises(CrossSpecError, match=said):
        room.check_kind(kind, with_config(tmp_path / 'model', **quantised), device)


@pytest.mark.parametrize('kind, device, library', [('int8', CPU, 'torchao'), ('nf4', CPU, 'bitsandbytes'),
                                                   ('int4', CUDA, 'torchao'), ('int8', CUDA, 'accelerate')])
def test_a_library_that_is_absent_is_named(tmp_path, monkeypatch, kind, device, library):
    monkeypatch.setattr(room, 'find_spec', lambda name: None if name == library else name)
    with pytest.raises(CrossSpecError, match=f'needs the library {library}.* pip install {library}'):
        room.check_kind(kind, with_config(tmp_path / 'model'), device)
    monkeypatch.setattr(room, 'find_spec', lambda name: name)
    room.check_kind(kind, tmp_path / 'model', device)


@pytest.mark.parametrize('quantised, coarse', [
    ({'quant_method': 'gptq'}, False), ({'quant_method': 'fbgemm_fp8'}, True),
    ({'quant_method': 'torchao', 'quant_type': {'default': {'_type': 'Int8WeightOnlyConfig'}}}, False),
    ({'quant_method': 'torchao', 'quant_type': {'default': {'_type': 'Int8DynamicActivationInt8WeightConfig'}}}, True),
    ({'quant_method': 'compressed-tensors', 'config_groups': {'0': {'input_activations': None}}}, False),
    ({'quant_method': 'compressed-tensors', 'config_groups': {'0': {'input_activations': {'num_bits': 8}}}}, True)])
def test_checkpoints_that_round_activations_are_not_called_exact(tmp_path, quantised, coarse):
    folder = with_config(tmp_path / 'model', **quantised)
    assert room.rounds_activations('none', folder, quantised) is coarse
    assert not room.rounds_activations('none', with_config(tmp_path / 'plain'), None)


def test_memory_that_ends_while_loading_is_said(tmp_path, monkeypatch):
    folder = wide(tmp_path / 'wide')

    def ends(*args, **options):
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB')
    import transformers
    monkeypatch.setattr(transformers.VideoLlavaForConditionalGeneration, 'from_pretrained', ends)
    with pytest.raises(CrossSpecError, match='no room for the weights in .*crossspec model check --memory'):
        load_target(folder)


def test_int4_computes_in_bfloat16_only(tmp_path):
    folder = wide(tmp_path / 'wide', hidden=128, heads=4)
    shapes = loading.empty_model(folder, 'VideoLlavaForConditionalGeneration')
    with pytest.raises(CrossSpecError, match='int4 must compute in bfloat16, got float16; set model.dtype'):
        room.settings_for('int4', shapes, torch.float16)
