"""Advice: changes that could help a run, each only where its settings and use leave room for it.

`saves` is an upper limit, of the busy time: every part of it that the change can act on is counted
as if nothing else came in its way. A change of a setting is given as `--set` takes it, so that it
can be tried as it stands.
"""
