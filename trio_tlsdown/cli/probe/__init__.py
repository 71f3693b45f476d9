"""``trio-tlsdown probe``: how does a server end its connections?"""

from ._command import merge as merge, probe as probe
