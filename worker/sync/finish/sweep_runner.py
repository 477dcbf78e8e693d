"""A stream's sweep within one slice: judged once, then asked about until the walk has ended."""

from worker.core.process.failpoints import hit_failpoint
from worker.store.state.streams import Stream
from worker.sync.context import SliceContext
from worker.sync.finish.candidates import SweepCandidates, prepare_sweep
from worker.sync.finish.confirm import confirm_candidates
from worker.sync.finish.keep import Confirmation
from worker.sync.finish.sweep import apply_sweep


class SweepRunner:
    """Asks Graph about candidates, and deletes what is gone."""

    def __init__(self, context: SliceContext, found: SweepCandidates) -> None:
        self._context = context
        self._candidates = found
        self.is_incomplete = found.stream.incomplete
        """Whether the walk skipped objects, so that nothing is swept."""

    @classmethod
    def start(cls, context: SliceContext, stream: Stream) -> "SweepRunner | None":
        """Judge what the walk did not see; None where the next slice is to begin with that."""
        found = prepare_sweep(context, stream)
        if found is None:
            context.unfinished_streams.add(stream.name)
            return None
        hit_failpoint("sweep-prepared")
        if found.delete_total:
            context.on_progress(stream.name, found.delete_total, "confirming deletions of")
        return cls(context, found)

    @property
    def stream(self) -> Stream:
        """The stream as it stands."""
        return self._candidates.stream

    @property
    def has_candidates(self) -> bool:
        """Whether anything is to be deleted or held."""
        return bool(self._candidates.delete_total or self._candidates.hold_reasons)

    def confirm(self) -> Confirmation:
        """What Graph says of those that are to be read by id. Touches no database."""
        return confirm_candidates(self._context.client, self._candidates)

    def apply(self, confirmed: object) -> bool:
        """Go on with what Graph said; whether the walk has ended."""
        assert isinstance(confirmed, Confirmation)
        ended = apply_sweep(self._context, self._candidates, confirmed)
        if ended:
            hit_failpoint("sweep-ended")
        return ended
