"""The graph on the synthetic driving world, live, with the events in the overlay's picture."""
from crossspec_ros.launching import describe


def generate_launch_description():
    return describe({'bag': 'world:1', 'respawn': 'false'}, parameters={'overlay': {'show_events': True}})
