"""Where log records go: a pipe from each child to the supervisor, and from there to stderr and to files by member.

`pipe` brings the records, `repeats` thins out what says the same again and again, `line` writes them, `files` keeps
them and `reading` finds them again. Nothing here knows what is logged.
"""

from nvision_hub.logs.line import Form, note_state
from nvision_hub.logs.outlet import kept_in, set_up
from nvision_hub.logs.pipe import ChildLog

__all__ = ["ChildLog", "Form", "kept_in", "note_state", "set_up"]
