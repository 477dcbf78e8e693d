"""A stream's sweep within one slice: judged once, then asked about until the walk has ended."""

from worker.core.crash import crash_point
from worker.store.streams import Stream
from worker.sync.confirm import still_there
from worker.sync.judging import Candidates, prepare_sweep
from worker.sync.session import Session
from worker.sync.spared import Confirmed
from worker.sync.sweep import apply_sweep


class Sweeping:
    """Asks Graph about candidates, and deletes what is gone."""

    def __init__(self, session: Session, found: Candidates) -> None:
        self._session = session
        self._found = found
        self.incomplete = found.stream.incomplete
        """Whether the walk skipped objects, so that nothing is swept."""

    @classmethod
    def begin(cls, session: Session, stream: Stream) -> "Sweeping | None":
        """Judge what the walk did not see; None where the next slice is to begin with that."""
        found = prepare_sweep(session, stream)
        if found is None:
            session.cut_short.add(stream.name)
            return None
        crash_point("sweep-prepared")
        if found.total:
            session.progress(stream.name, found.total, "confirming deletions of")
        return cls(session, found)

    @property
    def stream(self) -> Stream:
        """The stream as it stands."""
        return self._found.stream

    @property
    def has_candidates(self) -> bool:
        """Whether anything is to be deleted or held."""
        return bool(self._found.total or self._found.held)

    def ask(self) -> Confirmed:
        """What Graph says of those that are to be read by id. Touches no database."""
        return still_there(self._session.batcher, self._found)

    def take(self, confirmed: object) -> bool:
        """Go on with what Graph said; whether the walk has ended."""
        assert isinstance(confirmed, Confirmed)
        ended = apply_sweep(self._session, self._found, confirmed)
        if ended:
            crash_point("sweep-ended")
        return ended
