"""Who sees whom and who stands where: masks and positions of new tokens, some of them the nodes of a tree.

Shape letters: T new tokens, L keys (cached and new), A rows of positions, P rows of pictures, D embedding width.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedConfig

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.tree import TokenTree

NO_TREE = TokenTree()
ONE_KIND = ''
"""Name of the only mask of a decoder whose layers all see alike: it is handed over as it is, not by name."""
FULL, SLIDING = 'full_attention', 'sliding_attention'
_SHARED = ('num_kv_shared_layers', 'hidden_size_per_layer_input')


@dataclass(frozen=True)
class MaskKind:
    """How some layers see: ``window`` tokens back (0: all), and which rows also see each other forward.

    ``blocks`` is '' (none), 'runs' (flagged rows that stand side by side) or 'all' (all flagged rows of a forward);
    ``cut``: rows of a block that is longer than the window do not see back beyond it either.
    """

    window: int = 0
    blocks: str = ''
    cut: bool = False


@dataclass(frozen=True)
class FeatureForm:
    """How a decoder takes features for its first layers: names of the two arguments, ``keys`` of a dict of layers
    (None: a list), and whether the mask of rows is as ``wide`` as an embedding."""

    mask: str = 'visual_pos_masks'
    features: str = 'deepstack_visual_embeds'
    keys: tuple[int, ...] | None = None
    wide: bool = False

    def handed(self, where: torch.Tensor, layers: Sequence[torch.Tensor]) -> dict[str, object]:
        """The two arguments, from the rows that are given features, bool (T,), and these (P, D) for each layer."""
        mask = where[None, :, None].expand(1, -1, layers[0].shape[1]) if self.wide else where[None]
        return {self.mask: mask, self.features: list(layers) if self.keys is None else dict(zip(self.keys, layers))}


@dataclass(frozen=True)
class DecoderStyle:
    """What a decoder is handed: masks by the type of its layers, and so many rows of positions (0: a single one).

    ``kinds`` names the types; `ONE_KIND` alone means one mask for all layers. ``limit``: the longest sequence at which
    the frequencies of its rotary positions do not depend on the length of a forward (0: no limit). ``additive``: masks
    are summands of the scores instead of bools, as attention that is written out wants them.
    """

    kinds: Mapping[str, MaskKind] = field(default_factory=lambda: MappingProxyType({ONE_KIND: MaskKind()}))
    axes: int = 0
    limit: int = 0
    additive: bool = False
    features: FeatureForm = FeatureForm()

    @property
    def plain(self) -> bool:
        """True where one causal mask and one row of positions are all there is."""
        return not self.axes and not self.additive and dict(self.kinds) == {ONE_KIND: MaskKind()}

    def masks(self, mask: torch.Tensor, index: torch.Tensor, cached: int, blocks: torch.Tensor | None,
              like: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor | dict[str, torch.Tensor]:
        """Masks (1, 1, T, L) as the decoder takes them, from who sees whom, bool (T, L), where new tokens stand,
        ``index`` (T,), and the new tokens' flags of blocks (T,); on the device and, as summands, in the type of
        ``like``. ``places`` (L,), where all keys stand, saves the need for ``cached``, a number of the host's."""
        made = {}
        for name, kind in self.kinds.items():
            seen = self.mask(kind, mask, index, cached, blocks, places)[None, None].to(like.device)
            if self.additive:
                seen = like.new_zeros(seen.shape).masked_fill_(~seen, torch.finfo(like.dtype).min)
            made[name] = seen
        return made[ONE_KIND] if ONE_KIND in made else made

    @staticmethod
    def mask(kind: MaskKind, mask: torch.Tensor, index: torch.Tensor, cached: int,
             blocks: torch.Tensor | None, places: torch.Tensor | None = None) -> torch.Tensor:
        """What one kind of layers makes of who sees whom, bool (T, L); see `masks`."""
        window = None
        if kind.window:
            if places is None:
                places = torch.arange(mask.shape[1])
                places[cached:cached + len(index)] = index            # a node of a tree stands at its depth
            window = index[:, None] - places[None] < kind.window
            mask = mask & window
        if kind.blocks and blocks is not None:
            mask = mask.clone()
            same = blocks[:, None] & blocks[None]
            if kind.blocks == 'runs':
                run = torch.cumsum(blocks.diff(prepend=blocks[:1]).int(), 0)     # a number for each run of equal flags
                same &= run[:, None] == run[None]
            if kind.cut and window is not None:
                same &= window[:, cached:cached + len(index)]
            mask[:, cached:cached + len(index)] |= same
        return mask


def style_of(config: PreTrainedConfig, axes: int = 0, blocks: str = '') -> DecoderStyle:
    """The style that a decoder's config asks for. Raises `CrossSpecError` for layers that are no plain attention."""
    types = set(getattr(config, 'layer_types', None) or ())
    if types - {FULL, SLIDING}:
        raise CrossSpecError(f'layers must be {FULL} or {SLIDING}, whose keys and values can be cut back, got '
                             f'{", ".join(sorted(types - {FULL, SLIDING}))}')
    shared = [name for name in _SHARED if getattr(config, name, None)]
    if shared:
        raise CrossSpecError(f'layers must have keys and values of their own and no inputs by token, the config has '
                             f'{" and ".join(shared)}; use a checkpoint of the family without')
    window = int(getattr(config, 'sliding_window', None) or 0) if getattr(config, 'use_sliding_window', True) else 0
    made = {FULL: MaskKind(0, blocks), SLIDING: MaskKind(window, blocks)}
    if len(types) < 2:
        kind = made[SLIDING if SLIDING in types or (not types and window) else FULL]
        made = {ONE_KIND: kind}
    additive = getattr(config, '_attn_implementation', 'sdpa') == 'eager'
    return DecoderStyle(MappingProxyType(made), axes, _rope_limit(config), additive)


def _rope_limit(config: PreTrainedConfig) -> int:
    """Where rotary frequencies start to depend on the length of a forward; 0 where they never do."""
    parameters = getattr(config, 'rope_parameters', None) or getattr(config, 'rope_scaling', None) or {}
    settings = [one for one in parameters.values() if isinstance(one, dict)] or [parameters]
    limits = [int(one.get('original_max_position_embeddings') or getattr(config, 'original_max_position_embeddings', 0)
                  or config.max_position_embeddings)
              for one in settings if one.get('rope_type', one.get('type')) in ('dynamic', 'longrope')]
    return min(limits, default=0)


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the rows of a prompt stand: ``table`` (A, prompt), and by how much answers are moved, ``shift`` (A, 1)."""

    table: torch.Tensor
    shift: torch.Tensor

    def positions(self, index: torch.Tensor) -> torch.Tensor:
        """Positions (A, T) of the tokens that stand at ``index`` (T,) in the sequence."""
        length = self.table.shape[1]
        return torch.where(index[None] < length, self.table[:, index.clamp(max=length - 1)], index[None] + self.shift)


def tree_mask(cached: int, count: int, tree: TokenTree, keys: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Who sees whom, bool (count, keys), and where they stand, (count,), for ``count`` tokens after ``cached`` ones.

    The last ``len(tree)`` tokens are the tree: each sees the chunk before the tree and its own ancestors, and stands at
    its depth. ``keys`` are those cached and the new ones, or the whole of a fixed buffer.
    """
    nodes = len(tree)
    chunk = count - nodes
    first = cached + chunk
    mask = np.zeros((count, keys), dtype=bool)
    mask[:, :cached] = True
    mask[:chunk, cached:first] = np.tri(chunk, dtype=bool)
    index = np.arange(cached, cached + count)
    if nodes:
        mask[chunk:, cached:first] = True
        mask[chunk:, first:first + nodes] = tree.ancestor_mask()
        index[chunk:] = first + tree.depths()
    return torch.from_numpy(mask), torch.from_numpy(index)


def sight(cached: torch.Tensor, parents: torch.Tensor, keys: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`tree_mask` on the device, from the parents of new tokens alone: who sees whom, bool (T, keys), where they stand,
    (T,), and the rows of a fixed buffer that they go to, (T,).

    ``cached`` () tokens are in the buffer; ``parents`` (T,) counts the new ones from 0, -1 follows the cached ones.
    Tokens of a prompt are a chain. Each round doubles how far up the ancestors are known; the host reads nothing.
    """
    count, device = len(parents), parents.device
    jump = F.pad(parents + 1, (1, 0))                                   # row 0 stands for the cached ones: no ancestor
    seen = F.pad(torch.eye(count, dtype=torch.bool, device=device), (0, 0, 1, 0))
    for _ in range((count - 1).bit_length()):
        seen = seen | seen.index_select(0, jump)
        jump = jump.index_select(0, jump)
    seen = seen[1:]
    columns = cached + torch.arange(count, device=device)
    known = (torch.arange(keys, device=device) < cached).expand(count, keys)
    return known.index_copy(1, columns, seen), cached + seen.sum(1) - 1, columns
