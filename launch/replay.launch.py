"""The graph on a recording: `bag:=…` is played with /clock, which every node follows."""
from crossspec_ros.launching import describe


def generate_launch_description():
    return describe({'use_sim_time': 'true', 'respawn': 'false'}, required=('bag',))
