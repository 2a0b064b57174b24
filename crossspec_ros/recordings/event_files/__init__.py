"""Files of event cameras other than bags, read and written: one file a format, and what turns them into bags and
back.
"""
