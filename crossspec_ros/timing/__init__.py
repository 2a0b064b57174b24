"""Time: the grid of caption windows, and the way from the event sensor's clock to the ROS clock."""
