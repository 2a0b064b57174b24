"""The methods of the field: where each is measured here, or in a line why it is not built.

What proves not to pay is a row here and in the tables, no code in the live path.
"""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """``where``: experiments that measure it; ``why``: why it is not built, for those without any, or what of it;
    ``elsewhere``: it is built, and ``why`` says what measures it."""

    name: str
    source: str
    claim: str
    where: tuple[str, ...] = ()
    why: str = ''
    elsewhere: bool = False

    @property
    def built(self) -> bool:
        """Whether there is anything of it."""
        return bool(self.where) or self.elsewhere


METHODS = (
    Method('EAGLE-1, feature autoregression', '2401.15077', '2.7-3.5x', ('sources',)),
    Method('EAGLE-2, confidence trees', '2406.16858', '3.1-4.3x', ('sources',),
           'its tree is the one grown from all sources by measured worth'),
    Method('EAGLE-3, fused layers, rolled out', '2503.01840', 'up to 6.5x', ('sources',)),
    Method('Medusa, parallel heads', '2401.10774', '2.2-3.6x', ('sources',)),
    Method('block drafter (DFlash)', '2602.06036', '6.25 tokens accepted', ('sources',)),
    Method('Hydra, sequential heads', '2402.05109', '2.7x, 1.31x over Medusa', ('sources',)),
    Method('GLIDE and CaPE', '2402.02082', '2.2x, 2.6x with CaPE', ('sources',),
           'attends to the verifier\'s keys and values; its trees grow where it is unsure, as all do here'),
    Method('early exit (HiSpec)', '2510.01336', '1.28x mean, 2.01x best', ('early_exit',)),
    Method('lookahead', '2402.02057', '1.5-2.3x', ('lookahead',)),
    Method('prompt lookup, assisted generation', 'transformers', '1.3-2x', ('sources', 'lookahead'),
           'assisted generation needs a small model of the vocabulary: `crossspec bench decode --assistant DIR`'),
    Method('caption memory (SuffixDecoding)', '2411.04975', 'up to 5.3x', ('sources',)),
    Method('token recycling', '2408.08696', '2x', ('sources',)),
    Method('MASSV, Spec-LLaVA: a drafter with the verifier\'s eyes', '2505.10526, 2509.11961', '1.46x, 3.3x',
           ('alignment',), 'a decoder of the event drafter\'s size on the newest frame\'s visual tokens'),
    Method('ViSpec, MSD, HiViS, DREAM', '2509.15235, 2505.14260, 2509.23928, 2505.19201', '2.3-3.6x', ('eyes',),
           'as forms of one EAGLE-1 head'),
    Method('SpecVLM, elastic compressor', '2509.11815', '2.5-2.9x', ('compressors',),
           'of a drafter with the verifier\'s eyes; the event drafter has 36 visual tokens'),
    Method('SpecVLM for video, pruning by attention', '2508.16201', '2.68x', ('compressors', 'pruning'),
           'compressors: of a drafter\'s tokens, lossless; pruning: of the verifier\'s own, lossy'),
    Method('pruning by event density', '', '20-30% less cache', ('pruning',), 'of the verifier\'s own tokens: lossy'),
    Method('adapters from drafter to verifier states, LoRA', '2106.09685', '20% accepted, 1.02x', ('alignment',)),
    Method('features accepted by cosine', '', '86.8% accepted', ('confidence',),
           'the cosine needs the verifier\'s own states, so a learned confidence stands in for it: lossy'),
    Method('reconstruction first, layer-wise, two event rates', '', 'cosine .65 to .80', ('losses',)),
    Method('DistillSpec', '2310.08461', '+10-45%', ('losses',)),
    Method('AdaSPEC', '2510.19779', '+15% acceptance', ('losses',)),
    Method('SpecKD (SelecTKD)', '2510.24021', 'better students', ('losses',)),
    Method('GRIFFIN, cascade-aware weights', '2502.11018', '+8% accepted length, +7% speed', ('losses',),
           'of GRIFFIN the mask of places; its head that feeds states back is for heads on the verifier\'s'),
    Method('PyramidSD, fuzzy acceptance', '2510.12966', '1.91x, lossy', ('cascades',)),
    Method('Faster Cascades, deferral', '2405.19261', '2.9x, lossy', ('cascades',)),
    Method('typical acceptance', '2401.10774', 'faster, lossy', ('cascades',)),
    Method('event to frame to video, three models', '', '', (),
           'a node of the graph; measured by `crossspec replay RECORDING --no-dds --qualifier MODEL`', True),
    Method('PipeSpec, PEARL, DSI, AMUSD', '2505.01572, 2408.11850, 2405.14105, 2410.17375', '1.3-4.4x', ('ablations',),
           'drafter and verifier run beside each other already; ablations has drafts before and beside'),
    Method('speculative speculation (Saguaro)', '2603.03251', '', (),
           'redrafts for likely verdicts: the drafter drafts again in less than a pass of a 7B verifier takes'),
    Method('DuoDecoding, drafter on the CPU', '2503.00784', '2.6x', (),
           'a placement of the two nodes, which needs a GPU to measure'),
    Method('SLED, drafts at the edge', '2506.09397', '', (), 'measured by `crossspec bench link`, with delay and loss',
           True),
    Method('OmniDraft, cross-tokenizer', '2507.02659', '1.5-2x', (),
           'measured by `crossspec bench traces FILE` with another tokenizer and `crossspec bench online`', True),
    Method('block verification', '2403.10444', '+5-8% when sampling', ('sampling',)),
    Method('traversal verification', '2505.12398', '+2-6% when sampling', ('sampling',)),
    Method('SpecTr', '2310.15141', 'longer accepts when sampling', ('sampling',)),
    Method('sampled drafts by the exact rules', '2211.17192', 'exact', ('sampling',)),
    Method('OPT-Tree, Sequoia', '2406.17276, 2402.12374', 'sizes that pay', ('ablations',)),
    Method('draft length from events', '', 'gamma 2 / 6', (), 'measured by `crossspec bench drafts`: events tell '
           'nothing beyond the drafter\'s own certainty, so it was dropped', True),
    Method('Chimera, PaSS, FastVLM, CoreMatching', '', '', (), 'own weights, or no gain on CPUs'),
    Method('serving-side disaggregation', '', '', (), 'one stream has nothing to share'),
)


def not_built() -> list[Method]:
    """Those that there is nothing of, each with the reason."""
    return [method for method in METHODS if not method.built]
