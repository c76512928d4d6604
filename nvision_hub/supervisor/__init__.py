"""Who should be alive, and what to do about it.

`member.py` remembers, `decisions.py` decides, `loop.py` acts. What the children are, it is told (`hub.py`).
"""

from nvision_hub.supervisor.loop import Supervisor
from nvision_hub.supervisor.member import Limits, Member, Phase

__all__ = ["Limits", "Member", "Phase", "Supervisor"]
