"""What a head is, as its ``config.json`` says it."""
from __future__ import annotations

from dataclasses import dataclass

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.sources.heads import FINAL

KINDS = ('eagle1', 'eagle3', 'medusa', 'block')
MODEL_TYPE = 'crossspec_head'
_POSITIVE = ('dim', 'words', 'mlp_dim', 'attention_heads', 'depth', 'blocks')


@dataclass(frozen=True)
class HeadConfig:
    """Shapes of a head.

    ``layers`` are those of the verifier's decoder whose states it reads (counted from 0; `FINAL`: the states behind its
    last norm), ``dim`` their width, ``words`` the number of the verifier's tokens that it may say. ``depth``: tokens a
    forward of Medusa or of a block drafter says; for EAGLE the steps rolled out in training. ``blocks``: layers of a
    block drafter. ``verifier_key`` names the verifier it learned from (`Target.model_key`).
    """

    kind: str
    verifier_key: str
    layers: tuple[int, ...]
    dim: int
    words: int
    mlp_dim: int
    attention_heads: int = 4
    depth: int = 4
    blocks: int = 2
    model_type: str = MODEL_TYPE

    def __post_init__(self) -> None:
        if self.model_type != MODEL_TYPE:
            raise CrossSpecError(f'model_type of a head must be {MODEL_TYPE}, got {self.model_type!r}')
        if self.kind not in KINDS:
            raise CrossSpecError(f'kind of a head must be one of {", ".join(KINDS)}, got {self.kind!r}')
        object.__setattr__(self, 'layers', tuple(self.layers))
        for name in _POSITIVE:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise CrossSpecError(f'{name} of a head must be a whole number > 0, got {value!r}')
        if not self.layers or not all(isinstance(layer, int) and layer >= FINAL for layer in self.layers):
            raise CrossSpecError(f'layers of a head must be whole numbers from {FINAL} on, got {list(self.layers)}')
        if self.kind in ('eagle1', 'medusa') and self.layers != (FINAL,):
            raise CrossSpecError(f'layers of a head of kind {self.kind} must be [{FINAL}], the last states after their '
                                 f'norm, got {list(self.layers)}')
        if self.dim % (2 * self.attention_heads):
            raise CrossSpecError(f'dim of a head must be a multiple of twice its {self.attention_heads} attention '
                                 f'heads, got {self.dim}')


def usual_layers(kind: str, layers: int) -> tuple[int, ...]:
    """What a kind reads of a decoder of so many layers: an early one, a middle one and the last states, or only these.
    """
    if kind in ('eagle1', 'medusa') or layers < 3:
        return (FINAL,)
    return min(1, layers - 2), layers // 2, FINAL
