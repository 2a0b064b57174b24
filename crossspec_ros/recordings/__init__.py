"""Recordings that stand for a vehicle: rosbag2, DSEC and the synthetic driving world."""
