"""Bounds of engines under test.

A model with random weights seldom writes an end of its own: it writes to the
limit, and that is most of what its run takes.
"""

from __future__ import annotations

from engine.limits import Limits

#: Everything as the app has it, but fewer tokens to write.
BRIEF = Limits(new_tokens_decoder=8, new_tokens_target=40)
