"""Quality of what is said by each scheme: texts against the truth of the world, and its questions answered."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from crossspec_ros.experiments.asked import ask_all, table_of
from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, QUICK, Experiment, Outcome, Plot, Settings, Table, Value)
from crossspec_ros.experiments.intervals import by_drive, point, ratio
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.lossy_rules import lossy_rule
from crossspec_ros.speculation.intervals import drawn_groups, interval_95, resampled
from crossspec_ros.world import QUESTIONS

_SOURCES = ('memory', 'previous', 'drafts')
_PLAIN, _DRAFTED = 'verifier without drafts', 'verifier with drafts (lossless)'
_LOSSY = {'deferral (lossy)': 'deferral', 'fuzzy (lossy)': 'fuzzy', 'typical (lossy)': 'typical'}
_DRAFT, _PREVIOUS = 'event drafter alone', 'previous caption repeated'
_TEXTS, _DATA = 'texts', 'data'
_RESAMPLES = 60                         # CIDEr and BLEU of a corpus take a while


@dataclass(frozen=True)
class QualitySettings(Settings):
    """``live`` windows of each drive are decoded by the verifier itself; so are the first ``items`` of ``data``, a
    local copy of the field's, where one is named."""

    live: int = 10
    data: str = ''
    items: int = 200


@dataclass(frozen=True)
class Quality(Experiment):
    """Texts of all schemes, then each question."""

    def parts(self, settings: QualitySettings) -> tuple[str, ...]:
        own = tuple(f'{pace}/{part}' for pace in settings.paces
                    for part in (_TEXTS, *(f'question {number}' for number in range(1, len(QUESTIONS)))))
        return (*own, _DATA) if settings.data else own

    def measure(self, settings: QualitySettings, part: str, lab: Lab) -> dict[str, Any]:
        if part == _DATA:
            return asdict(ask_all(lab, settings.data, settings.items))
        pace, name = part.split('/')
        shown = lab.shown(pace, settings.live)
        if name != _TEXTS:
            return {'rows': self._answers(lab, pace, settings.live, QUESTIONS[int(name.split()[1])])}
        said: dict[str, list[str]] = {
            _PLAIN: [lab.target.decode(lab.without_end(each.window.token_ids)) for each in shown],
            _DRAFTED: [lab.target.decode(outcome.tokens) for outcome in lab.live(pace, settings.live, _SOURCES)]}
        for label, rule in _LOSSY.items():
            said[label] = [lab.target.decode(outcome.tokens) for outcome in
                           lab.live(pace, settings.live, _SOURCES, rule=lossy_rule(rule))]
        said[_DRAFT] = [lab.target.decode(lab.without_end(each.window.late.token_ids)) for each in shown]
        said[_PREVIOUS] = [text if last is not None and last.window.drive == each.window.drive else ''
                           for text, last, each in zip(['', *said[_PLAIN]], [None, *shown], shown)]
        return {'rows': [{'drive': each.window.drive, 'truth': each.truth, 'said': {
            label: texts[place].strip() for label, texts in said.items()}} for place, each in enumerate(shown)]}

    @staticmethod
    def _answers(lab: Lab, pace: str, live: int, question: str) -> list[dict[str, Any]]:
        """Exact answers with drafts and without. Raises CrossSpecError where they differ."""
        rows = []
        drafted = lab.live(pace, live, ('memory', 'previous', 'recycling'), prompt=question)
        for outcome, shown in zip(drafted, lab.shown(pace, live)):
            rows.append({'drive': shown.window.drive, 'windows': 1, 'question': question,
                         'right': int(lab.target.decode(outcome.tokens).strip() == shown.answers[question])})
        return rows

    def conclude(self, settings: QualitySettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, told = [], {}, {}
        for pace in settings.paces:
            rows = found[f'{pace}/{_TEXTS}']['rows']
            told[pace] = {label: _scores(rows, label) for label in rows[0]['said']}
            tables.append(Table(
                f'Texts against the truth of the world, {pace}: {len(rows)} windows',
                ('scheme', 'BLEU-4', 'ROUGE-L', 'CIDEr', 'exactly true', 'as without drafts'),
                tuple((label, *scores) for label, scores in told[pace].items()),
                'BLEU-4 by sacrebleu, ROUGE-L by rouge-score, CIDEr by pycocoevalcap. Lossless rows are equal in all '
                'windows, asserted.'))
            series[pace] = [point(label, scores[1]) for label, scores in told[pace].items()]
            answers = [each['rows'] for part, each in found.items() if part.startswith(f'{pace}/question')]
            tables.append(Table(f'Exact answers to the other questions, {pace}', ('question', 'exactly true'),
                                tuple((each[0]['question'], ratio(each, 'right', 'windows')) for each in answers),
                                'With drafts; without them the same tokens, asserted.'))
        if settings.data:
            tables.append(table_of(**found[_DATA]))
        mine = told[settings.paces[0]]
        lossy = {label: scores for label, scores in mine.items() if label in _LOSSY}
        worst = min(lossy, key=lambda label: lossy[label][1].value)
        equal = mine[_DRAFTED] == mine[_PLAIN]
        assert equal, 'lossless rows must be equal'
        return Outcome(
            tuple(tables), f'with drafts every score is that of the verifier alone (ROUGE-L {mine[_PLAIN][1]}); the '
            f'event drafter alone reaches {mine[_DRAFT][1]}, the caption before {mine[_PREVIOUS][1]}, the lossy rule '
            f'that loses most, {worst}, {lossy[worst][1]}.', HOLDS if equal else FAILS,
            'Speed costs no quality while the rule is lossless; take the drafter\'s own words as a preview only.',
            Plot('bars', 'ROUGE-L against the truth', 'ROUGE-L, 95% over drives', '', series))


def _scores(rows: Sequence[Mapping[str, Any]], label: str) -> tuple[Value, ...]:
    """BLEU-4, ROUGE-L, CIDEr, exactly true, as without drafts; each with its interval over drives."""
    from crossspec_ros.train.text_scores import text_scores

    def figures(each: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        said = [row['said'][label] for row in each]
        scores = text_scores(said, [row['truth'] for row in each])
        return scores | {'exact': sum(text == row['truth'] for text, row in zip(said, each)) / len(each),
                         'same': sum(text == row['said'][_PLAIN] for text, row in zip(said, each)) / len(each)}
    groups, digits = by_drive(rows), {'bleu4': 1, 'rouge_l': 3, 'cider': 2, 'exact': 2, 'same': 2}
    values = figures(rows)
    if len(groups) < 2:
        return tuple(Value(values[name], digits=places) for name, places in digits.items())
    found = resampled(groups, figures, drawn_groups(len(groups), _RESAMPLES))
    return tuple(Value(values[name], *interval_95(found[name]), digits=places) for name, places in digits.items())


EXPERIMENT = Quality(
    name='quality', title='What speed costs in words', source='every paper of lossless decoding',
    claim='lossless drafts change nothing; "under 5% loss" is not lossless',
    measures='Captions of every scheme against the truth of the driving world, and the world\'s other questions '
             'answered exactly or not.', lossless=False,
    full=QualitySettings(), quick=QualitySettings(**QUICK, live=2, items=10))
