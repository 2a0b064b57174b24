"""The graph on a vehicle: real cameras, wall time. Arguments: `ros2 launch crossspec_ros vehicle.launch.py
--show-args`.
"""
from crossspec_ros.launching import describe


def generate_launch_description():
    return describe()
