"""One timeline of all processes: each writes a part while it runs, the parts are joined, the critical path is read."""
