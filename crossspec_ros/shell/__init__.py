"""The user's shell: what its variables mean for ROS 2 and Python, checked before rclpy or another C library reads them.

Imports the standard library only: it has to work where nothing else does.
"""
from crossspec_ros.shell.foreign import explain, probe
from crossspec_ros.shell.settle import look, settle, settle_streams
from crossspec_ros.shell.table import OWN_GRAPH, REFUSED, TOLD, TURNED, VARIABLES, Finding, Variable

__all__ = ['OWN_GRAPH', 'REFUSED', 'TOLD', 'TURNED', 'VARIABLES', 'Finding', 'Variable', 'explain', 'look', 'probe',
           'settle', 'settle_streams']
