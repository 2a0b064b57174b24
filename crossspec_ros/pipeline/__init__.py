"""What a drafter and a verifier do with packets, frames and windows, free of ROS: the nodes and the replay share it."""
