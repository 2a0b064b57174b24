"""BLEU-4, ROUGE-L and CIDEr of captions by the libraries that papers use."""
from __future__ import annotations

from collections.abc import Sequence


def text_scores(candidates: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """``bleu4`` (0 to 100, sacrebleu), ``rouge_l`` (F1, 0 to 1, rouge-score), ``cider`` (0 to 10, pycocoevalcap).

    CIDEr's document frequencies are those of ``references``, and its tokens are words in lower case (the Java
    tokeniser of the original would cut the same simple sentences at the same places).
    """
    import sacrebleu
    from pycocoevalcap.cider.cider import Cider
    from rouge_score.rouge_scorer import RougeScorer

    bleu = sacrebleu.corpus_bleu(list(candidates), [list(references)]).score
    scorer = RougeScorer(['rougeL'])
    rouge = sum(scorer.score(reference, candidate)['rougeL'].fmeasure
                for candidate, reference in zip(candidates, references, strict=True)) / max(1, len(candidates))
    cider, _ = Cider().compute_score({i: [_words(text)] for i, text in enumerate(references)},
                                     {i: [_words(text)] for i, text in enumerate(candidates)})
    return {'bleu4': round(bleu, 2), 'rouge_l': round(rouge, 4), 'cider': round(float(cider), 3)}


def _words(text: str) -> str:
    return ' '.join(text.lower().replace('.', ' .').replace(',', ' ,').split())
