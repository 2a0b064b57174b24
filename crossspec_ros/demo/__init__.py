"""``crossspec demo``: the whole graph as processes of their own, watched live, with a report of what it did."""
