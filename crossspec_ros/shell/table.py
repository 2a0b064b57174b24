"""The one table of variables: which are looked at, by which check, and what follows from a value that is wrong."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crossspec_ros.shell import checks, network

REFUSED = 'refused'                     # nothing can run so: an error of one line
TURNED = 'turned'                       # set to a value that works, which is told
TOLD = 'told'                           # works, though not as the user may think


@dataclass(frozen=True)
class Finding:
    """A value that is wrong: ``rule`` begins with ``must`` or says what is the matter; ``settings`` mends it."""

    variable: str
    value: str
    rule: str
    advice: str
    kind: str
    settings: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """In one line: variable, rule, value, what to do."""
        shown = self.value if len(self.value) <= 120 else self.value[:117] + '...'
        return f'{self.variable} {self.rule}, got {shown!r}; {self.advice}'


@dataclass(frozen=True)
class Variable:
    """A row: ``check`` returns what is wrong with the environment as (rule, advice), or (rule, advice, settings)."""

    name: str
    check: Callable[[Mapping[str, str]], tuple | None]
    kind: str
    ros: bool = True                    # only what uses ROS 2 reads it

    def look(self, environment: Mapping[str, str]) -> Finding | None:
        """What is wrong with this variable, or None."""
        found = self.check(environment)
        if found is None:
            return None
        rule, advice, *settings = found
        return Finding(self.name, environment.get(self.name, ''), rule, advice, self.kind, *settings)


VARIABLES: tuple[Variable, ...] = (
    Variable('PYTHONPATH', checks.python_path, REFUSED, ros=False),
    Variable('PYTHONOPTIMIZE', checks.python_optimize, REFUSED, ros=False),
    Variable('TMPDIR', checks.temporary_folder, TOLD, ros=False),
    *(Variable(name, checks.count_of(name), TURNED, ros=False) for name in checks.THREAD_COUNTS),
    Variable('RMW_IMPLEMENTATION', checks.middleware, REFUSED),
    Variable('FASTDDS_DEFAULT_PROFILES_FILE', checks.profile_of('FASTDDS_DEFAULT_PROFILES_FILE'), REFUSED),
    Variable('FASTRTPS_DEFAULT_PROFILES_FILE', checks.profile_of('FASTRTPS_DEFAULT_PROFILES_FILE'), REFUSED),
    Variable('FASTDDS_ENVIRONMENT_FILE', checks.fastdds_environment, REFUSED),
    Variable('FASTDDS_BUILTIN_TRANSPORTS', checks.fastdds_transports, REFUSED),
    Variable('CYCLONEDDS_URI', checks.cyclone_uri, REFUSED),
    Variable('ZENOH_SESSION_CONFIG_URI', checks.zenoh_uri, REFUSED),
    Variable('RMW_FASTRTPS_PUBLICATION_MODE', checks.one_of('RMW_FASTRTPS_PUBLICATION_MODE', checks.PUBLICATION_MODES),
             TURNED),
    Variable('ROS_DOMAIN_ID', network.domain, REFUSED),
    Variable('ROS_AUTOMATIC_DISCOVERY_RANGE', network.discovery_range, REFUSED),
    Variable('ROS_LOCALHOST_ONLY', network.localhost_only, REFUSED),
    Variable('ROS_DISCOVERY_SERVER', network.discovery_server, REFUSED),
    Variable('ROS_STATIC_PEERS', network.static_peers, REFUSED),
    Variable('ROS_SECURITY_KEYSTORE', checks.keystore, REFUSED),
    Variable('ROS_LOG_DIR', checks.log_folder, TURNED),
    *(Variable(name, checks.one_of(name, ('0', '1')), TURNED) for name in checks.RCUTILS_SWITCHES),
    Variable('RCUTILS_CONSOLE_OUTPUT_FORMAT', checks.log_format, TURNED),
)
# What a graph that keeps to itself has no use for: it has a domain of its own, on this host.
OWN_GRAPH = ('ROS_DISCOVERY_SERVER', 'ROS_STATIC_PEERS', 'ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE',
             'ROS_LOCALHOST_ONLY')
