"""What a folder may hold, what is refused and in which words, and that no code of a folder is run unasked."""
from __future__ import annotations

import builtins
import json
import logging
import shutil
import struct

import numpy as np
import pytest
import torch

import tiny_models
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import loading
from crossspec_ros.models import processor_fields
from crossspec_ros.models.targets import load_target
from crossspec_ros.models.builtin import builtin_path
from crossspec_ros.models.folder import check_folder, class_names
from crossspec_ros.models.preprocessing import load_preprocessor
from crossspec_ros.models.vision_ops import load_vision_ops

POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp('whole'), 'video_llava')


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / 'copy')


def edit(folder, name, **changes):
    """Change fields of a JSON file; a value of ... takes the field out."""
    path = folder / name
    content = json.loads(path.read_text()) if path.is_file() else {}
    content |= changes
    path.write_text(json.dumps({field: value for field, value in content.items() if value is not ...}))


def refusal(folder, **options):
    with pytest.raises(CrossSpecError) as caught:
        load_target(folder, **options)
    assert '\n' not in str(caught.value), 'one line'
    return str(caught.value)


@pytest.fixture
def trap(monkeypatch):
    """Code in a folder that leaves a mark where it runs, and a terminal that nobody may be asked in."""
    def asked(*arguments):
        raise AssertionError('nobody is to be asked in a terminal')
    monkeypatch.setattr(builtins, 'input', asked)

    def spring(folder, module):
        mark = folder / 'it_ran'
        (folder / f'{module}.py').write_text(f"open({str(mark)!r}, 'w').close()\nclass X: pass\n")
        return mark
    return spring


@pytest.mark.parametrize('name, changes', [
    pytest.param('config.json', dict(architectures=['OwnModel'], model_type='own', auto_map={
        'AutoConfig': 'own.X', 'AutoModelForImageTextToText': 'own.X'}), id='model'),
    pytest.param('tokenizer_config.json', dict(tokenizer_class='OwnTokenizer', auto_map={
        'AutoTokenizer': ['own.X', None]}), id='tokenizer'),
    pytest.param('video_preprocessor_config.json', dict(video_processor_type='OwnVideoProcessor', auto_map={
        'AutoVideoProcessor': 'own.X'}), id='video processor')])
def test_code_of_a_folder_is_refused_in_one_line(copy, trap, name, changes):
    mark = trap(copy, 'own')
    edit(copy, name, **changes)
    assert 'model.trust_remote_code' in refusal(copy)
    assert not mark.exists()


def test_a_class_of_transformers_is_used_instead_of_a_folders_code(copy, trap):
    mark = trap(copy, 'own')
    edit(copy, 'config.json', auto_map={'AutoConfig': 'own.X', 'AutoModelForImageTextToText': 'own.X'})
    edit(copy, 'tokenizer_config.json', auto_map={'AutoTokenizer': ['own.X', None]})
    edit(copy, 'video_preprocessor_config.json', auto_map={'AutoVideoProcessor': 'own.X'})
    checkpoint = load_target(copy)
    assert type(checkpoint.model).__module__.startswith('transformers.')
    assert not mark.exists()


def sharded(folder):
    model = tiny_models.build_model('video_llava', 0)
    (folder / 'model.safetensors').unlink()
    model.save_pretrained(folder, max_shard_size='60KB')
    return sorted(folder.glob('model-*.safetensors'))


def test_shards_that_are_all_there_are_loaded(copy, folder):
    assert len(sharded(copy)) > 2
    whole, parts = load_target(folder).model, load_target(copy).model
    assert torch.equal(whole.lm_head.weight, parts.lm_head.weight)


def test_half_the_shards_missing_is_said(copy):
    shards = sharded(copy)
    for path in shards[1::2]:
        path.unlink()
    text = refusal(copy)
    assert f'{len(shards[1::2])} are missing' in text and shards[1].name in text


def test_shards_outside_of_the_folder_are_refused(copy):
    sharded(copy)
    index = json.loads((copy / 'model.safetensors.index.json').read_text())
    index['weight_map'] = {name: f'../{part}' for name, part in index['weight_map'].items()}
    (copy / 'model.safetensors.index.json').write_text(json.dumps(index))
    assert 'must name files in the folder' in refusal(copy)


def write_pickled(folder):
    (folder / 'model.safetensors').unlink()
    torch.save(tiny_models.build_model('video_llava', 0).state_dict(), folder / 'pytorch_model.bin')


def test_pickled_weights_only_where_allowed(copy, folder):
    write_pickled(copy)
    assert 'model.allow_pickle' in refusal(copy)
    loaded = load_target(copy, allow_pickle=True).model
    assert torch.equal(loaded.lm_head.weight, load_target(folder).model.lm_head.weight)


class Harm:
    """Runs something when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), 'w')


def test_pickled_weights_never_run_code(copy):
    (copy / 'model.safetensors').unlink()
    torch.save({'lm_head.weight': Harm(copy / 'it_ran')}, copy / 'pytorch_model.bin')
    assert 'must be tensors alone' in refusal(copy, allow_pickle=True)
    assert not (copy / 'it_ran').exists()


def test_safetensors_come_before_pickled_weights(copy):
    torch.save({'lm_head.weight': Harm(copy / 'it_ran')}, copy / 'pytorch_model.bin')
    load_target(copy, allow_pickle=True)
    assert not (copy / 'it_ran').exists()


def test_adapter_weights_beside_the_weights_are_refused(copy):
    edit(copy, 'adapter_config.json', peft_type='LORA', base_model_name_or_path='some/base')
    text = refusal(copy)
    assert 'adapter_config.json' in text and 'merge_and_unload' in text


def test_a_folder_of_adapter_weights_alone_is_refused(tmp_path):
    edit(tmp_path, 'adapter_config.json', peft_type='LORA')
    (tmp_path / 'adapter_model.safetensors').write_bytes(b'')
    assert 'no weights of a whole model' in refusal(tmp_path)


def break_header(folder):
    (folder / 'model.safetensors').write_bytes(struct.pack('<Q', 1 << 60) + b'{}')


def grow(folder):
    with (folder / 'model.safetensors').open('ab') as file:
        file.write(b'\0' * 9)


def rename(folder):
    (folder / 'model.safetensors').rename(folder / 'consolidated.safetensors')


def drop_a_weight(folder):
    from safetensors.torch import load_file, save_file
    weights = load_file(folder / 'model.safetensors')
    (head,) = (name for name in weights if name.endswith('lm_head.weight'))
    weights.pop(head)
    save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})


def take_a_word_for_the_placeholder(folder):
    edit(folder, 'config.json', video_token_id=280, video_token_index=280)


def pointer(name):
    return lambda folder: (folder / name).write_text(POINTER)


def change(name, **changes):
    return lambda folder: edit(folder, name, **changes)


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


VIDEO = 'video_preprocessor_config.json'


@pytest.mark.parametrize('breakage, match', [
    pytest.param(break_header, 'whole safetensors file', id='header'),
    pytest.param(grow, 'bytes by its header', id='longer'),
    pytest.param(rename, 'got consolidated.safetensors', id='other name'),
    pytest.param(drop_a_weight, '1 are missing, first lm_head.weight', id='weight missing'),
    pytest.param(pointer('model.safetensors'), 'git lfs pull', id='pointer weights'),
    pytest.param(pointer('tokenizer.json'), 'git lfs pull', id='pointer tokenizer'),
    pytest.param(pointer('config.json'), 'git lfs pull', id='pointer config'),
    pytest.param(write('config.json', '{"a": '), 'config.json must be a JSON object', id='config cut'),
    pytest.param(write('config.json', '[]'), 'got a list', id='config list'),
    pytest.param(write('tokenizer_config.json', '7'), 'tokenizer_config.json must be a JSON', id='tokenizer config'),
    pytest.param(write('generation_config.json', '{'), 'generation_config.json must be a JSON object', id='generation'),
    pytest.param(change('generation_config.json', num_beams=4), 'num_beams must be 1', id='beams'),
    pytest.param(write('tokenizer.json', '{}'), 'tokenizer in .* cannot be read', id='tokenizer empty'),
    pytest.param(take_a_word_for_the_placeholder, 'placeholder .* is a word', id='placeholder'),
    pytest.param(change('config.json', architectures='Video'), 'must be a list of class names', id='class no list'),
    pytest.param(change('config.json', architectures=['NoSuch'], model_type='no_such'),
                 'class must be one of', id='class'),
    pytest.param(change('config.json', video_token_id='five', video_token_index='five'), 'cannot', id='id as text'),
    pytest.param(change('config.json', quantization_config={'quant_method': 'gptq', 'bits': 4}),
                 'gptq.* not here', id='gptq'),
    pytest.param(change('config.json', quantization_config={'load_in_4bit': True}),
                 'bitsandbytes.* not here', id='4 bit'),
    pytest.param(change('config.json', quantization_config={'bits': 4}), 'must name a quant_method', id='no method'),
    pytest.param(change(VIDEO, size={'height': 56, 'width': 56}, do_center_crop=False),
                 'processor .* vision tower', id='size'),
    pytest.param(change(VIDEO, crop_size={'height': 42, 'width': 42}), 'processor .* vision tower', id='crop'),
    pytest.param(change(VIDEO, do_center_crop=False), 'processor .* vision tower', id='no crop'),
    pytest.param(change(VIDEO, patch_size=16), 'patch_size .* vision tower', id='patch'),
    pytest.param(change('processor_config.json', patch_size=16), 'patch_size .* vision tower', id='patch of processor'),
    pytest.param(change(VIDEO, size='large'), "size in .* got 'large'", id='size as text'),
    pytest.param(change(VIDEO, image_mean=[0.5, 0.5]), 'image_mean in .* three numbers', id='two means'),
    pytest.param(change(VIDEO, image_std=[0.5, 0.5, 0]), 'image_std in .* must not be 0', id='std nought'),
    pytest.param(change(VIDEO, resample=1), 'resample must be one of', id='resample'),
    pytest.param(change(VIDEO, video_processor_type='NoSuchProcessor'), 'NoSuchProcessor', id='processor class')])
def test_broken_folders_are_named(copy, breakage, match):
    breakage(copy)
    with pytest.raises(CrossSpecError, match=match):
        raise CrossSpecError(refusal(copy))


def test_weights_of_another_size_are_named(copy):
    edit(copy, 'config.json', text_config=json.loads((copy / 'config.json').read_text())['text_config']
         | {'intermediate_size': 48})
    assert 'cannot be loaded' in refusal(copy)


def test_a_config_without_architectures_is_known_by_its_kind(copy):
    edit(copy, 'config.json', architectures=...)
    assert type(load_target(copy).model).__name__ == 'VideoLlavaForConditionalGeneration'


@pytest.mark.parametrize('config, expected', [
    ({'model_type': 'qwen3_vl'}, 'Qwen3VLForConditionalGeneration'),
    ({'model_type': 'llava_onevision', 'architectures': ['LlavaOnevisionModel']},
     'LlavaOnevisionForConditionalGeneration'),
    ({'model_type': 'internvl', 'architectures': ['InternVLChatModel']}, 'InternVLForConditionalGeneration'),
    ({'model_type': 'llama', 'architectures': ['LlamaForCausalLM']}, 'LlamaForCausalLM')])
def test_class_names_of_a_config(config, expected):
    assert class_names(config)[0] == expected


def test_unused_weights_are_said(copy, caplog):
    from safetensors.torch import load_file, save_file
    weights = load_file(copy / 'model.safetensors') | {'other.weight': torch.zeros(2)}
    save_file(weights, copy / 'model.safetensors', metadata={'format': 'pt'})
    with caplog.at_level(logging.WARNING):
        load_target(copy)
    assert 'other.weight' in caplog.text


def test_patches_of_a_processor_must_be_those_of_the_tower(copy):
    edit(copy, 'processor_config.json', patch_size=28)
    assert 'patch_size' in refusal(copy)


def test_load_processor_reads_text_and_frames(copy):
    if not load_vision_ops():
        pytest.skip('transformers video processors need torchvision')
    assert loading.load_processor(builtin_path('verifier')).tokenizer
    (copy / VIDEO).unlink()
    with pytest.raises(CrossSpecError, match='processor in .*save_pretrained'):
        loading.load_processor(copy)


def test_check_folder_reads_a_whole_folder(folder):
    check_folder(folder)


def test_processor_class_defaults_are_those_of_transformers(monkeypatch, tmp_path):
    if not load_vision_ops():
        pytest.skip('transformers video processors need torchvision')
    for name in processor_fields.WITHOUT_TORCHVISION:
        of_class = {field: value for field, value in processor_fields.class_defaults(name, tmp_path).items()}
        monkeypatch.setattr(processor_fields, 'load_vision_ops', lambda: False)
        table = {field: processor_fields.class_defaults(name, tmp_path).get(field) for field in of_class}
        monkeypatch.undo()
        assert {field: list(value) if isinstance(value, tuple) else value for field, value in table.items()} == of_class


@pytest.mark.parametrize('left_out', [
    ('image_mean', 'image_std'), ('do_normalize', 'do_rescale', 'rescale_factor'), ('resample', 'do_resize'),
    ('do_center_crop',), ('size', 'crop_size')])
@pytest.mark.parametrize('kind', ['video_llava', 'llava_onevision'])
def test_fields_left_out_are_those_of_the_class(tmp_path, kind, left_out):
    tiny_models.write_checkpoint(tmp_path, kind)
    edit(tmp_path, VIDEO, **{field: ... for field in left_out})
    assert_pixels_of_transformers(tmp_path)


@pytest.mark.parametrize('switch', ['do_normalize', 'do_resize', 'do_center_crop'])
@pytest.mark.parametrize('off', [None, False])
def test_a_switch_that_is_null_is_off(tmp_path, switch, off):
    tiny_models.write_checkpoint(tmp_path, 'video_llava')
    edit(tmp_path, VIDEO, **{switch: off})
    assert_pixels_of_transformers(tmp_path)


def assert_pixels_of_transformers(folder):
    if not load_vision_ops():
        pytest.skip('transformers video processors need torchvision')
    from transformers import AutoVideoProcessor
    frame = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    expected = AutoVideoProcessor.from_pretrained(folder)([frame[None]], return_tensors='pt')['pixel_values_videos']
    assert torch.equal(load_preprocessor(folder)(frame), expected[0, 0])


@pytest.mark.parametrize('field', ['image_mean', 'image_std', 'size', 'crop_size', 'resample', 'rescale_factor'])
def test_a_value_that_is_null_is_named(tmp_path, field):
    tiny_models.write_checkpoint(tmp_path, 'video_llava')
    edit(tmp_path, VIDEO, **{field: None})
    with pytest.raises(CrossSpecError, match=f'{field} must be given'):
        load_preprocessor(tmp_path)


def test_a_size_of_one_number_is_the_class_way(tmp_path):
    tiny_models.write_checkpoint(tmp_path, 'video_llava')
    edit(tmp_path, VIDEO, size=28, crop_size=28)
    assert load_preprocessor(tmp_path).shortest_edge == 28
    edit(tmp_path, VIDEO, default_to_square=True)
    assert load_preprocessor(tmp_path).size == (28, 28)


def test_type_of_weights_is_their_own_unless_a_cpu_or_a_name_says_otherwise(folder, tmp_path):
    cpu, elsewhere = torch.device('cpu'), torch.device('meta')
    assert loading.find_dtype('auto', cpu) is torch.float32 and loading.find_dtype('auto', elsewhere) is None
    assert loading.find_dtype('bfloat16', elsewhere) is torch.bfloat16
    half = shutil.copytree(folder, tmp_path / 'half')
    load_target(folder).model.to(torch.bfloat16).save_pretrained(half)
    name = loading.architectures(half)[0]
    assert loading.load_model(half, name, None).dtype is torch.bfloat16
    assert load_target(half).dtype is torch.float32 and load_target(half, dtype='float16').dtype is torch.float16


@pytest.mark.parametrize('installed', [True, False], ids=['accelerate', 'without'])
def test_weights_go_straight_to_a_device_where_a_library_can(folder, monkeypatch, installed):
    import transformers
    name, asked = loading.architectures(folder)[0], []
    from_pretrained = getattr(transformers, name).from_pretrained

    def remembers(*args, **options):
        asked.append(options.pop('device_map', None))
        return from_pretrained(*args, **options)

    monkeypatch.setattr(getattr(transformers, name), 'from_pretrained', remembers)
    monkeypatch.setattr(loading, 'find_spec', lambda library: object() if installed else None)
    device = torch.device('meta')
    assert loading.load_model(folder, name, None, device=device).device == device
    assert loading.load_model(folder, name, None).device == torch.device('cpu')
    assert asked == [{'': device} if installed else None, None]
