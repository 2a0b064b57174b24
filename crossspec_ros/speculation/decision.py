"""Which method of captioning wins where: ages by the model of `speculation.age`, over share of prefill, tau and length.

The methods are those that a person can choose between; a new one is a line in `FORMS`.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.age import Method, Timing, bound, break_even_tau, expected_age_ms

FORMS: dict[str, Method] = {
    'generate': Method('generate', ahead=False), 'ahead': Method('ahead'), 'lookup': Method('lookup', ahead=False),
    'memory': Method('memory'), 'drafter_late': Method('drafter_late'),
    'drafter_early': Method('drafter_early', fused=True), 'heads': Method('heads'), 'cascade': Method('cascade'),
    'fused': Method('fused', fused=True)}
"""The forms of the methods, without their drafts."""

LABELS: dict[str, str] = {
    'generate': 'generate: whole prefill after the newest frame, a token a pass',
    'ahead': 'frames prefilled as they come, no drafts',
    'lookup': 'previous caption, after the whole prefill',
    'memory': 'caption memory, frames as they come',
    'drafter_late': 'event drafter, begun at the window\'s end',
    'drafter_early': 'event drafter, there before the newest frame',
    'heads': 'heads on the verifier\'s states',
    'cascade': 'cascade: a middle model makes drafts better',
    'fused': 'all drafts, the first ones verified in the last prefill'}

_STEPS = 1000                    # of the search for a tau
DRAFTED = tuple(name for name in FORMS if name not in ('generate', 'ahead'))
"""Those that draft."""


@dataclass(frozen=True)
class Drafts:
    """What drafts of a kind come to: ``tau`` tokens a verifying pass, bonus included, of trees of ``nodes`` (None:
    twice as many as are accepted), ``step_ms`` a pass that the verifier waits, ``there_ms`` after the newest frame."""

    tau: float
    nodes: float | None = None
    step_ms: float = 0.0
    there_ms: float = 0.0


@dataclass(frozen=True)
class Row:
    """A method in the table: its age, how many times sooner than generate it is and can be at most, and the tau from
    which on it is younger than no drafts at all are (None: never, or it has none)."""

    method: Method
    age_ms: float
    speedup: float
    bound: float
    pays_from_tau: float | None


def methods_of(drafts: Mapping[str, Drafts], generate_step_ms: float = 0.0) -> list[Method]:
    """The methods without drafts, and those whose drafts are known, in the order of `FORMS`.

    ``generate_step_ms``: what a token of generate takes more than c(1). Raises CrossSpecError for a name that is none.
    """
    made = {name: method_of(name, drafts[name]) for name in drafts}
    plain = [replace(FORMS['generate'], step_ms=generate_step_ms), FORMS['ahead']]
    return plain + [made[name] for name in DRAFTED if name in made]


def method_of(name: str, drafts: Drafts) -> Method:
    """The method of a name with such drafts. Raises CrossSpecError for a name that is none."""
    if name not in DRAFTED:
        raise CrossSpecError(f'drafts must be among {", ".join(DRAFTED)}, got {name}')
    nodes = 2 * (drafts.tau - 1) if drafts.nodes is None else drafts.nodes
    return replace(FORMS[name], tau=drafts.tau, nodes=nodes, step_ms=drafts.step_ms, there_ms=drafts.there_ms)


def decide(timing: Timing, methods: Sequence[Method], tokens: float) -> list[Row]:
    """The methods with their ages at answers of so many tokens, the youngest caption first; of equal ages the one that
    was named first. Compared with the first that is called generate, else with the plain form of it."""
    generate = next((method for method in methods if method.name == 'generate'), FORMS['generate'])
    base_ms = expected_age_ms(timing, generate, tokens)
    rows = []
    for method in methods:
        age_ms = expected_age_ms(timing, method, tokens)
        plain_ms = expected_age_ms(timing, FORMS['ahead' if method.ahead else 'generate'], tokens)
        pays = break_even_tau(timing, method, tokens, plain_ms) if method.name in DRAFTED else None
        rows.append(Row(method, age_ms, base_ms / age_ms, bound(timing, method, tokens, generate), pays))
    return sorted(rows, key=lambda row: row.age_ms)


def prefill_share(timing: Timing, tokens: float) -> float:
    """Share of the time of generate, a token a pass, before its first token."""
    return timing.whole_ms / expected_age_ms(timing, FORMS['generate'], tokens)


def with_share(timing: Timing, share: float, tokens: float) -> Timing:
    """The same verifier with prompts longer or shorter, so that their prefill has this share of generate's time.

    Encoding and prefill of every frame grow alike; passes cost what they did, and a forward c(1) at least. Raises
    CrossSpecError unless 0 < share < 1 and tokens > 1.
    """
    if not 0 < share < 1 or not tokens > 1:
        raise CrossSpecError(f'share must be between 0 and 1 and tokens > 1, got {share} and {tokens}')
    whole_ms = share / (1 - share) * (tokens - 1) * timing.cost(1)
    times = whole_ms / timing.whole_ms
    return replace(timing, whole_ms=whole_ms, newest_ms=times * timing.newest_ms, frame_ms=times * timing.frame_ms,
                   last_ms=max(times * timing.last_forward_ms, min(timing.cost(1), whole_ms)))


def winners(timing: Timing, methods: Callable[[float], Sequence[Method]], shares: Sequence[float],
            taus: Sequence[float], tokens: float) -> list[list[Row]]:
    """The winning row for each share of prefill and, in it, for each tau; ``methods(tau)`` are those to choose from."""
    scaled, made = [with_share(timing, share, tokens) for share in shares], [methods(tau) for tau in taus]
    return [[decide(each, choice, tokens)[0] for choice in made] for each in scaled]


def chosen(rows: Sequence[Row], margin: float = 0.02) -> Row:
    """What to use: the simplest method, in the order of `FORMS`, whose captions are at most ``margin`` older than the
    youngest."""
    youngest = min(row.age_ms for row in rows)
    order = {name: place for place, name in enumerate(FORMS)}
    near = [row for row in rows if row.age_ms <= (1 + margin) * youngest]
    return min(near, key=lambda row: order[row.method.name])


def needed_tau(timing: Timing, name: str, step_ms: float, tokens: float, age_ms: float) -> float | None:
    """How many tokens a pass a method would have to say to be as young as that, with such a step of its own a pass and
    trees of twice as many nodes as it has accepted; None: however many, it would not be."""
    def age(tau: float) -> float:
        return expected_age_ms(timing, method_of(name, Drafts(tau, None, step_ms)), tokens)

    low, high = 1.0, max(2.0, float(tokens))
    if age(low) <= age_ms:
        return low
    steps = [low + (high - low) * step / _STEPS for step in range(_STEPS + 1)]
    return next((tau for tau in steps if age(tau) <= age_ms), None)
