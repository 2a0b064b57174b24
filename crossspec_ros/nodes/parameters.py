"""ROS parameters declared from the config dataclasses, so that a default stands in one place only."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from crossspec_ros.config import ParameterInfo, check, make, parameters_of, with_values
from crossspec_ros.errors import CrossSpecError


def _descriptor(info: ParameterInfo) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=info.description, read_only=not info.live)
    if info.choices:
        descriptor.additional_constraints = 'one of ' + ', '.join(info.choices)
    elif info.pattern:
        descriptor.additional_constraints = info.pattern
    if info.low is not None:
        if isinstance(info.default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(info.low), to_value=float(info.high))]
        else:
            descriptor.integer_range = [IntegerRange(from_value=int(info.low), to_value=int(info.high), step=0)]
    return descriptor


def declare(node: Node, config: type) -> Any:
    """Declare all parameters of a node and build its config from what was given.

    Raises:
        CrossSpecError: a value of a wrong type, out of range or not among the choices; the text says which and why.
    """
    values = {}
    for info in parameters_of(config):
        _fit_override(node, info)
        try:
            # An empty list has no type in ROS; [''] stands for it.
            default = (list(info.default) or ['']) if isinstance(info.default, tuple) else info.default
            values[info.name] = node.declare_parameter(info.name, default, _descriptor(info)).value
        except InvalidParameterTypeException as error:
            given = node._parameter_overrides[info.name].value if info.name in node._parameter_overrides else '?'
            raise CrossSpecError(f'{info.name} must be {type(info.default).__name__}, got {given!r}') from error
        except InvalidParameterValueException as error:
            given = node._parameter_overrides[info.name].value
            check(info, given)
            raise CrossSpecError(f'{info.name}: {error}') from error
    return make(config, values)


def _fit_override(node: Node, info: ParameterInfo) -> None:
    """Take a whole number for a time or a rate, and an empty list, which has no type in ROS, for no texts."""
    given = node._parameter_overrides.get(info.name)
    if given is None:
        return
    if isinstance(info.default, float) and given.type_ == Parameter.Type.INTEGER:
        node._parameter_overrides[info.name] = Parameter(info.name, Parameter.Type.DOUBLE, float(given.value))
    elif isinstance(info.default, tuple) and given.type_ == Parameter.Type.NOT_SET:
        node._parameter_overrides[info.name] = Parameter(info.name, Parameter.Type.STRING_ARRAY, [''])


def follow_changes(node: Node, config: Any, changed: Callable[[Any], None]) -> None:
    """Call ``changed`` with the new config when live parameters change; values that break a rule are refused."""
    state = {'config': config}
    infos = {info.name: info for info in parameters_of(type(config))}

    def on_set(parameters: list[Parameter]) -> SetParametersResult:
        try:
            news = {infos[p.name].field: check(infos[p.name], p.value) for p in parameters if p.name in infos}
        except CrossSpecError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if news:
            state['config'] = with_values(state['config'], news)
            changed(state['config'])
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)
