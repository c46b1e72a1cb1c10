"""The page of `tts-jax serve`: the flow, SGD and the limit of one start, drawn in a browser while they are computed.

`runs.py` computes what is asked for, and `server.py` answers the browser of this machine. There `page.js` asks and
shows, `setting.js` keeps the fields, `draw.js` draws on the axes of `panel.js`, and `drag.js` moves the target.
"""

from .server import listening as listening
