"""Shots: from the timeline to frames that the server paints, and from painted frames to files.

`timeline` says which frames, through which cameras, with which words; `footage` reads and draws them, with links to the
frames that their paint comes from; `files` keeps what was painted, with the request inside.
"""
