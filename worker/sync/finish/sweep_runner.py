"""A stream's sweep within one slice: judge once, then confirm and delete until the walk ends."""

from worker.core.process.failpoints import hit_failpoint
from worker.store.state.streams import Stream
from worker.sync.context import SliceContext
from worker.sync.finish.candidates import SweepCandidates, prepare_sweep
from worker.sync.finish.confirm import confirm_candidates
from worker.sync.finish.keep import Confirmation
from worker.sync.finish.sweep import apply_sweep


class SweepRunner:
    """Confirms candidates with Graph, and deletes those that are gone."""

    def __init__(self, context: SliceContext, candidates: SweepCandidates) -> None:
        self._context = context
        self._candidates = candidates
        self.is_incomplete = candidates.stream.incomplete
        """Whether the walk skipped objects, so that nothing is swept."""

    @classmethod
    def start(cls, context: SliceContext, stream: Stream) -> "SweepRunner | None":
        """Judge the rows that the walk did not see; None if the slice ends before that is done."""
        candidates = prepare_sweep(context, stream)
        if candidates is None:
            context.unfinished_streams.add(stream.name)
            return None
        hit_failpoint("sweep-prepared")
        if candidates.delete_total:
            context.on_progress(stream.name, candidates.delete_total, "confirming deletions of")
        return cls(context, candidates)

    @property
    def stream(self) -> Stream:
        """The current stream."""
        return self._candidates.stream

    @property
    def has_candidates(self) -> bool:
        """Whether anything is to be deleted or held."""
        return bool(self._candidates.delete_total or self._candidates.hold_reasons)

    def confirm(self) -> Confirmation:
        """Read the candidates that need it by id. Touches no database."""
        return confirm_candidates(self._context.client, self._candidates)

    def apply(self, confirmed: object) -> bool:
        """Apply the results of ``confirm``; return whether the walk has ended."""
        assert isinstance(confirmed, Confirmation)
        ended = apply_sweep(self._context, self._candidates, confirmed)
        if ended:
            hit_failpoint("sweep-ended")
        return ended
