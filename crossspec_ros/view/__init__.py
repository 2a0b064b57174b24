"""What people see of the graph: what was heard on its topics, which text stands on the screen, and how it is drawn."""
