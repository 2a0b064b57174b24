"""The fields of a checkpoint's video processor: those of its file, the rest from the class that the file names.

A processor file often holds only what differs from its class. The classes of transformers need torchvision to be looked
at; where it is not installed, what the two classes served without it would say stands here (a test compares both).
"""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.files import read_object
from crossspec_ros.models.vision_ops import load_vision_ops

FILES = ('processor_config.json', 'video_preprocessor_config.json', 'preprocessor_config.json')
FIELDS = ('do_resize', 'size', 'default_to_square', 'resample', 'do_center_crop', 'crop_size', 'do_rescale',
          'rescale_factor', 'do_normalize', 'image_mean', 'image_std')
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_ALIKE: dict[str, Any] = dict(do_resize=True, resample=3, default_to_square=False, do_rescale=True,
                              rescale_factor=1 / 255, do_normalize=True, image_mean=_CLIP_MEAN, image_std=_CLIP_STD)
WITHOUT_TORCHVISION: Mapping[str, Mapping[str, Any]] = {
    'VideoLlavaVideoProcessor': _ALIKE | dict(size={'shortest_edge': 224}, do_center_crop=True,
                                              crop_size={'height': 224, 'width': 224}),
    'LlavaOnevisionVideoProcessor': _ALIKE | dict(size={'height': 384, 'width': 384}, do_center_crop=None,
                                                  crop_size=None),
}
_OF_MODEL_TYPE = {'video_llava': 'VideoLlavaVideoProcessor', 'llava_onevision': 'LlavaOnevisionVideoProcessor'}


def processor_fields(folder: Path) -> dict[str, Any]:
    """Every field in `FIELDS`, as the processor that transformers would make of the folder has it.

    Raises `CrossSpecError` where there is no processor file, or it is broken, or names a class that is not there.
    """
    found, path = _processor_file(folder)
    defaults = class_defaults(_class_name(found, folder, path), path)
    _check_types(found, path)
    # A null in the file is one in the processor, as in transformers: only what is left out comes from the class.
    return {field: found[field] if field in found else defaults.get(field) for field in FIELDS}


def class_defaults(name: str, path: Path) -> Mapping[str, Any]:
    """What a video processor class of transformers says of each field. Raises `CrossSpecError` for an unknown one."""
    if not load_vision_ops():
        if name in WITHOUT_TORCHVISION:
            return WITHOUT_TORCHVISION[name]
        raise CrossSpecError(f'video_processor_type in {path} must be one of {", ".join(WITHOUT_TORCHVISION)} where '
                             f'torchvision is not installed, got {name!r}; install torchvision')
    import transformers
    known = getattr(transformers, name, None)
    if known is None:
        raise CrossSpecError(f'video_processor_type in {path} must be a class of transformers, got {name!r}; '
                             'mend the name, or use a transformers that has it')
    return {field: getattr(known, field, None) for field in FIELDS} | {
        'rescale_factor': getattr(known, 'rescale_factor', None) or 1 / 255}


def _processor_file(folder: Path) -> tuple[dict[str, Any], Path]:
    for name in FILES:
        path = folder / name
        if not path.is_file():
            continue
        content = read_object(path)
        if name != FILES[0]:
            return content, path
        if 'video_processor' in content:
            if not isinstance(content['video_processor'], dict):
                raise CrossSpecError(f'video_processor in {path} must be a JSON object, '
                                     f'got {content["video_processor"]!r}')
            return content['video_processor'], path
    raise CrossSpecError(f'no processor in {folder}: one of {", ".join(FILES)} must say how frames are resized and '
                         'normalised; save it there with processor.save_pretrained(folder)')


def _class_name(found: Mapping[str, Any], folder: Path, path: Path) -> str:
    """The class: by its name, by that of the image processor, or by the kind of model."""
    named = found.get('video_processor_type')
    if named is not None:
        if not isinstance(named, str):
            raise CrossSpecError(f'video_processor_type in {path} must be the name of a class, got {named!r}')
        return named.removesuffix('Fast')
    config = folder / 'config.json'
    kind = read_object(config).get('model_type') if config.is_file() else None
    image = found.get('image_processor_type')
    if isinstance(image, str):
        inferred = image.removesuffix('Fast').replace('ImageProcessor', 'VideoProcessor')
        if inferred in WITHOUT_TORCHVISION or kind not in _OF_MODEL_TYPE:
            return inferred
    if kind in _OF_MODEL_TYPE:
        return _OF_MODEL_TYPE[kind]
    return next(iter(WITHOUT_TORCHVISION))                      # a file that says neither: what it leaves out is CLIP's


def _check_types(found: Mapping[str, Any], path: Path) -> None:
    rules = {
        **{field: (lambda value: isinstance(value, bool), 'true or false')
           for field in ('do_resize', 'do_center_crop', 'do_rescale', 'do_normalize', 'default_to_square')},
        **{field: (_is_size, 'a whole number > 0, a pair of them, or an object of them')
           for field in ('size', 'crop_size')},
        **{field: (_is_colour, 'a number or three numbers') for field in ('image_mean', 'image_std')},
        'resample': (_is_whole, 'a whole number'),
        'rescale_factor': (lambda value: _is_number(value) and value > 0, 'a number > 0'),
    }
    for field, (fits, words) in rules.items():
        value = found.get(field)
        if value is not None and not fits(value):
            raise CrossSpecError(f'{field} in {path} must be {words}, got {value!r}; mend the value there')
    if any(value == 0 for value in _as_three(found.get('image_std') or 1.0)):
        raise CrossSpecError(f'image_std in {path} must not be 0, got {found["image_std"]!r}; mend the value there')


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_colour(value: Any) -> bool:
    return _is_number(value) or isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_size(value: Any) -> bool:
    sides = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    whole = all(side is None or _is_whole(side) and side > 0 for side in sides)
    return whole and (not isinstance(value, list) or len(value) == 2 and None not in value)


def _as_three(value: Any) -> tuple[float, float, float]:
    return (value,) * 3 if _is_number(value) else tuple(value)
