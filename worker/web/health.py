"""Handlers of the health checks."""

from worker.core.errors import MirrorError
from worker.core.log import get_logger
from worker.store.schema_version import get_newest_revision, load_revision_in
from worker.store.state.metrics import set_statement_timeout
from worker.web.answers import LiveAnswer, ReadyAnswer, SchemaDetails, Word
from worker.web.call import Call
from worker.web.endpoint import Reply


def get_live(_: Call) -> Reply:
    return Reply(LiveAnswer(Word.ALIVE))


def get_ready(call: Call) -> Reply:
    """Ask the database, and nothing else: other servers do not keep this process from serving."""
    needed = get_newest_revision()
    try:
        with call.context.database.open_transaction() as db:
            set_statement_timeout(db)
            found = load_revision_in(db)
    except MirrorError as error:
        get_logger().warning("not ready", request_id=call.request_id, reason=str(error))
        return Reply(ReadyAnswer(Word.UNREADY), status=503)
    is_ready = found == needed
    details = SchemaDetails(found, needed) if call.sees_details else None
    answer = ReadyAnswer(Word.READY if is_ready else Word.UNREADY, details)
    return Reply(answer, status=200 if is_ready else 503)
