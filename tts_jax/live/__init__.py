"""The page of `tts-jax serve`: the flow, SGD and the limit of one start, drawn in a browser while they are computed.

`runs.py` computes what is asked for, `server.py` answers the browser of this machine, and `page.html`, `page.css`,
`page.js` and `draw.js` are what the browser shows.
"""

from .server import listening as listening
