"""Is it Nango, or only this request? One cheap question to Nango itself decides.

A firewall may refuse one path with an empty 403, and a Nango without its database refuses every
key; both look like a wrong address or key of ours. So an answer that is neither Nango's nor
Graph's, and a call without any answer, are never taken for the state of the whole service before
Nango has been asked for one row of its list of connections.
"""

from collections.abc import Callable
from typing import Final

from worker.core.errors import Halt, Outage, Retry, Torn, Trouble
from worker.nango.health import RECENT, Health, State, is_passing, until_question
from worker.nango.reply import Reply
from worker.nango.verdict import (
    AllDoubted,
    Doubtful,
    StrangeAnswer,
    exhausted,
    nango_trouble,
    shows_that_nango_works,
)

QUESTION: Final = "/connections?limit=1"
QUESTION_SECONDS: Final = 10.0
"""How long the answer to it may take."""

OWN_PAUSE: Final = 60.0
"""Seconds for which a request that something in between refuses is left alone."""

ALL_PAUSE: Final = 5.0
"""The same where the key or the way was refused, and was accepted a moment later."""


class Diagnosis:
    """Decides for one process; what is known is shared by all through ``health``.

    ``send`` sends the question, once, with a deadline in seconds; it raises Trouble.
    """

    def __init__(self, health: Health, send: Callable[[float], Reply], pause: float) -> None:
        self._health = health
        self._send = send
        self._pause = pause

    def admit(self, *, by_hand: bool) -> None:
        """Called ahead of every call. While Nango is in doubt, it is asked the question first.

        One of all workers asks, every few seconds; a person's command asks by itself. Raises
        Outage, or Halt where the key or the address is wrong by all that is known.
        """
        if not self._health.is_doubted():
            self._health.note_sent()
            return
        state, now = self._health.look()
        if not state.is_doubted:
            return
        if not (by_hand or self._health.take_turn(self._pause)):
            raise self._outage(state, now)
        trouble = self.ask()
        if trouble is not None:
            raise trouble

    def takes_turn(self) -> bool:
        """Whether the caller is the one to ask the question now."""
        return self._health.take_turn(self._pause)

    def ask(self) -> Trouble | None:
        """Ask the question and note the answer for all; what is wrong, or None where it works."""
        try:
            trouble = self._judged_question(self._send(QUESTION_SECONDS))
        except Trouble as fault:
            trouble = fault
        if trouble is None:
            self._health.note_worked(anyway=True)
            return None
        ended = exhausted(trouble, 0.0) if isinstance(trouble, Retry) else trouble
        halts = isinstance(ended, Halt)
        lasting = isinstance(trouble, Halt) and not isinstance(trouble, Doubtful)
        state, now = self._health.note_out(ended.message, halts=halts, lasting=lasting)
        return self._outage(state, now)

    def has_worked(self) -> bool:
        """Whether this key has ever worked at this address, as far as is known."""
        return self._health.look()[0].has_worked

    def decide(self, doubtful: Doubtful) -> Trouble:
        """What an answer that is neither Nango's nor Graph's means: for all, or for its request."""
        state, now = self._health.look()
        if not state.has_worked:
            return doubtful
        of_all = isinstance(doubtful, AllDoubted)
        if of_all or now - state.worked_at > RECENT:
            trouble = self.ask()
            if trouble is not None:
                return trouble
        pause = ALL_PAUSE if of_all else OWN_PAUSE
        message = f"{doubtful.message}; other calls get through, so only this waits"
        return StrangeAnswer(message, after=pause)

    def _judged_question(self, reply: Reply) -> Trouble | None:
        if not reply.ok:
            return None if shows_that_nango_works(reply) else nango_trouble(reply, 0.0)
        document = reply.document()
        if isinstance(document, dict) and "connections" in document:
            return None
        return nango_trouble(reply, 0.0) or Torn("what answers in Nango's place is not Nango")

    def _outage(self, state: State, now: float) -> Trouble:
        if state.halts and (state.lasting or not is_passing(state, now)):
            return Halt(state.reason)
        after = until_question(state, now, self._pause)
        return Outage(f"Nango does not work now: {state.reason}", after=after)
