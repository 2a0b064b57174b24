"""One module a command of ``crossspec``: ``add_parser(subparsers)`` declares it, ``run(args)`` does it."""
