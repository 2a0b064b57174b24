"""ROS 2 nodes: thin wiring between topics and the core."""
