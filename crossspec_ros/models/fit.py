"""Does a checkpoint fit a device? Said from its config and the headers of its files, before any weight is read.

Bytes are counted for the weights in a type or kind, keys and values of the windows that are open, what the biggest
forward makes on the way, captured steps, and what a process takes before it has a model. Weights, keys and values are
those of the modules themselves, built without memory; the forward is the decoder's over a whole prompt at once, from
above, beside which a vision tower over one group of frames is small.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from pathlib import Path

import psutil
import torch

from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
from transformers import PreTrainedConfig, PreTrainedModel

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import loading
from crossspec_ros.models.caches import SequenceCache
from crossspec_ros.models.devices import find_device
from crossspec_ros.models.folder import check_folder, quantisation_of, weight_files, weight_sizes
from crossspec_ros.models.quantization import KINDS, NONE, check_layers, find_kind, linear_shapes
from crossspec_ros.models.targets.adapters import ADAPTERS, EXACT_PATCHES, Parts
from crossspec_ros.models.targets.adapters.processed import noise
from crossspec_ros.models.targets.graphs import free_bytes
from crossspec_ros.models.targets.inputs import Pictures
from crossspec_ros.models.targets.padded import SIZES, PaddedForwards, step_bytes

GB = 1e9
_LOGITS, _FLOAT = 3, 4             # copies of float32 logits: the head's, those that are ranked, their order
_PROCESS = {'cpu': 0.7e9, 'cuda': 1.0e9}           # libraries and their context; on a GPU kernels and workspaces too
_CHEAP = 6                         # a model that takes no more than so many times its files is not worth a look


@dataclass(frozen=True)
class Serving:
    """How a checkpoint is to be served. ``first_nodes``: nodes of the tree that goes with the last prefill;
    ``windows``: windows open at a time; ``size``: height and width of frames, px; ``padded``: in captured passes."""

    frames: int = 8
    max_new_tokens: int = 96
    first_nodes: int = 256
    windows: int = 2
    size: tuple[int, int] = (480, 640)
    prompt: str = 'What is happening?'
    fps: float = 8.0
    padded: bool = False


@dataclass(frozen=True)
class Need:
    """Bytes that serving takes, by what for; ``tokens`` are those of a window's prompt."""

    weights: int
    windows: int
    forward: int
    steps: int
    process: int
    tokens: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.windows + self.forward + self.steps + self.process


@dataclass(frozen=True, eq=False)
class Shapes:
    """A model without its weights, on the meta device: how large is what. ``quantised``: the method by which weights in
    its files are."""

    model: PreTrainedModel
    own_dtype: torch.dtype
    folder: Path = Path()
    quantised: str | None = None
    trust_remote_code: bool = False

    @property
    def name(self) -> str:
        """The model's class."""
        return type(self.model).__name__

    @property
    def text(self) -> PreTrainedConfig:
        """The decoder's config."""
        return self.model.config.get_text_config(decoder=True)

    def weights(self, element: int, quantization: str = NONE) -> int:
        """Bytes of all weights where a number of the type to compute in takes ``element``.

        Of weights that are quantised in their files: as many as there. Raises `CrossSpecError` for a kind that the
        layers do not allow.
        """
        if self.quantised is not None:
            return sum(size for _, _, size in weight_sizes(self.folder))
        kind, whole = find_kind(quantization), sum(weight.numel() for weight in self.model.parameters())
        if kind is None:
            return whole * element
        check_layers(quantization, self.model)
        shapes = [shape for _, shape in linear_shapes(self.model)]
        kept = whole - sum(rows * columns for rows, columns in shapes)
        return kept * element + sum(kind.bytes_of(*shape, element) for shape in shapes)

    def token_bytes(self, element: int) -> int:
        """Bytes of the keys and values of one token. Raises `CrossSpecError` where they cannot be told."""
        return self._token_numbers * element

    @cached_property
    def _token_numbers(self) -> int:
        """Numbers among the keys and values of one token, from a forward of one on the meta device."""
        decoder = self.model.get_decoder()
        cache = SequenceCache(int(self.text.num_hidden_layers), 1)
        width, = decoder.get_input_embeddings().weight.shape[1:]
        like = next(decoder.parameters())
        named = 'cache' if 'cache' in signature(decoder.forward).parameters else 'past_key_values'
        try:
            with torch.inference_mode():
                decoder(inputs_embeds=torch.zeros(1, 1, width, dtype=like.dtype, device='meta'),
                        **{named: cache.inner}, use_cache=True)
        except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, KeyError) as error:
            raise CrossSpecError(f'keys and values of {type(decoder).__name__} cannot be told without its weights '
                                 f'({type(error).__name__}); load it with crossspec model check') from error
        return cache.bytes_a_token // like.element_size()

    def prompt_tokens(self, serving: Serving) -> int:
        """Tokens of the prompt of a window: those that the folder's processor makes, or the class's own adapter where
        it has no need of one."""
        trust = self.trust_remote_code
        parts = Parts(self.folder, self.model, loading.load_tokenizer(self.folder, trust), serving.fps, trust)
        named = ADAPTERS.get(self.name)
        try:
            if named is not None and self.name in EXACT_PATCHES:
                return named(parts).layout(serving.prompt, serving.frames, *serving.size).length
            pictures = Pictures(self.folder, self.model, serving.fps, named.template if named else None, trust)
            return pictures(serving.prompt, noise(serving.frames, *serving.size, seed=0))['input_ids'].shape[1]
        except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, KeyError) as error:
            raise CrossSpecError(f'the prompt of {self.name} cannot be laid out without its weights '
                                 f'({type(error).__name__}); load it with crossspec model check') from error

    def forward(self, rows: int, keys: int, element: int) -> int:
        """Bytes that a forward of so many rows over so many keys makes on the way, from above.

        States, what a layer makes of them, masks, and one quantised weight as it is computed with; attention is never
        written out but for classes that have no other way.
        """
        wide, narrow = self.text.intermediate_size, self.text.hidden_size
        attention = rows * keys
        if not getattr(type(self.model), '_supports_sdpa', True):
            attention *= 3 * self.text.num_attention_heads
        largest = max((rows * columns for _, (rows, columns) in linear_shapes(self.model)), default=0)
        return element * (rows * (8 * narrow + 4 * wide) + 2 * attention + largest)


def read_shapes(path: str | Path, trust_remote_code: bool = False, allow_pickle: bool = False) -> Shapes:
    """The shapes of a checkpoint folder, a hub id or builtin. Raises `CrossSpecError` where parts are missing."""
    folder = loading.find_folder(path, allow_pickle)
    check_folder(folder, trust_remote_code, allow_pickle)
    names = loading.architectures(folder)
    model = loading.empty_model(folder, next((one for one in names if one in ADAPTERS), names[0]), trust_remote_code)
    return Shapes(model, loading.own_dtype(folder, model.config), folder, quantisation_of(folder), trust_remote_code)


def need(shapes: Shapes, serving: Serving, device: str, dtype: torch.dtype, quantization: str = NONE,
         tokens: int = 0) -> Need:
    """What serving takes on a kind of device ('cpu', 'cuda'). ``tokens``: of the prompt, where they are known.

    Raises `CrossSpecError` where it cannot be told.
    """
    element = torch.empty((), dtype=dtype).element_size()
    tokens = tokens or shapes.prompt_tokens(serving)
    capacity = tokens + serving.max_new_tokens + serving.first_nodes + 1
    if serving.padded:
        capacity = PaddedForwards.length(capacity)
    vocabulary, dim = int(shapes.text.vocab_size), int(shapes.text.hidden_size)
    logits = (serving.first_nodes + 1) * vocabulary * _FLOAT * _LOGITS
    steps = 0
    if serving.padded:                               # what each gives stays; what it makes on the way is shared
        given = sum(SIZES) * (vocabulary + dim) * element
        steps = serving.windows * given + step_bytes(SIZES[-1], capacity, vocabulary, dim, element)
    return Need(weights=shapes.weights(element, quantization),
                windows=serving.windows * capacity * shapes.token_bytes(element),
                forward=shapes.forward(tokens + serving.first_nodes, capacity, element) + logits, steps=steps,
                process=int(_PROCESS[device]), tokens=tokens)


def ways(shapes: Shapes, device: str) -> list[tuple[str, torch.dtype, str]]:
    """Ways to keep the weights on a kind of device, the most exact first: name, type to compute in, kind."""
    found = [('float32', torch.float32, NONE)]
    if shapes.own_dtype != torch.float32:
        found.append((str(shapes.own_dtype).removeprefix('torch.'), shapes.own_dtype, NONE))
    elif device != 'cpu':
        found.append(('bfloat16', torch.bfloat16, NONE))
    if shapes.quantised is not None:
        return [(shapes.quantised, found[-1][1], NONE)]
    base = torch.float32 if device == 'cpu' else found[-1][1]
    return found + [(name, torch.bfloat16 if name == 'int4' else base, name)
                    for name, kind in KINDS.items() if device in kind.devices]


def survey(shapes: Shapes, serving: Serving, device: str, tokens: int = 0) -> dict[str, Need | str]:
    """What each way takes; a sentence where the layers do not allow it. ``tokens`` and errors as for `need`."""
    tokens = tokens or shapes.prompt_tokens(serving)
    found: dict[str, Need | str] = {}
    for name, dtype, kind in ways(shapes, device):
        try:
            check_layers(kind, shapes.model) if kind != NONE else None
        except CrossSpecError as error:
            found[name] = str(error)
        else:
            found[name] = need(shapes, serving, device, dtype, kind, tokens)
    return found


def advice(found: dict[str, Need | str], free: float, wanted: str) -> str:
    """What to change so that it fits: a way that does, or fewer frames or another model."""
    fits = [name for name, one in found.items() if isinstance(one, Need) and one.total <= free and name != wanted]
    if fits:
        return f'it would as {" or ".join(fits)}'
    least = min((one for one in found.values() if isinstance(one, Need)), key=lambda one: one.total, default=None)
    if least is not None and least.weights + least.process < free:
        return 'use fewer frames, smaller ones, or fewer max_new_tokens'
    return 'use a smaller model or more memory'


def room_of(device: torch.device) -> int:
    """Bytes that are free on a device: of a GPU its own, else the host's."""
    free = free_bytes(device)
    return psutil.virtual_memory().available if free is None else free


def check_fit(path: str | Path, serving: Serving, device: str, dtype: str, quantization: str = NONE,
              trust_remote_code: bool = False, allow_pickle: bool = False) -> None:
    """Raise `CrossSpecError` where a checkpoint cannot fit the device that it is asked for; nothing is loaded.

    What is small beside the free memory by the length of its files is not looked at closer, nor what cannot be told.
    """
    found, folder = find_device(device), loading.find_folder(path, allow_pickle)
    free = room_of(found)
    if _CHEAP * sum(file.stat().st_size for file in weight_files(folder, allow_pickle)) < free:
        return
    kind = 'cuda' if found.type == 'cuda' else 'cpu'
    shapes = read_shapes(folder, trust_remote_code, allow_pickle)
    computed = loading.find_dtype(dtype, found) or shapes.own_dtype
    serving = replace(serving, padded=kind == 'cuda')
    try:
        wanted = need(shapes, serving, kind, computed, quantization)
    except CrossSpecError:
        if shapes.weights(torch.empty((), dtype=computed).element_size(), quantization) <= free:
            return
        raise
    if wanted.total - wanted.process > free:                        # the libraries are loaded by now
        others = survey(shapes, serving, kind)
        raise CrossSpecError(
            f'{shapes.name} in {folder} does not fit {device}: it takes {text_of(wanted)}, '
            f'{free / GB:.1f} GB are free; {advice(others, free, quantization)}')


def text_of(one: Need) -> str:
    """Bytes by what for, in words."""
    parts = [f'{size / GB:.1f} GB for {name}' for name, size in (
        ('weights', one.weights), ('keys and values', one.windows), ('a forward', one.forward),
        ('captured passes', one.steps)) if size]
    return f'{one.total / GB:.1f} GB ({", ".join(parts)})'
