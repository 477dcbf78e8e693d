"""Odd pages of walks, as set in `TenantOptions`: empty, repeated, or in endless loops."""

from dataclasses import replace

from sandbox.tenant.directory.tokens import TokenCursor, TokenMode
from sandbox.tenant.graph.call import GraphCall


def is_empty_page(call: GraphCall, cursor: TokenCursor) -> bool:
    """Whether this page of the walk is served empty although there are more objects."""
    every = call.tenant.options.empty_page_every
    if call.tenant.options.loop == "empty" and is_looping(call, cursor):
        return True
    return every > 1 and cursor.page_number % every == every - 1


def is_repeating_page(call: GraphCall, cursor: TokenCursor) -> bool:
    every = call.tenant.options.repeat_every
    return every > 0 and cursor.page_number % every == every - 1


def repeat_objects(
    call: GraphCall, cursor: TokenCursor, texts: list[bytes], at: int
) -> tuple[list[bytes], int]:
    """Return the page with its first object twice, and its last one again on the next page."""
    if is_repeating_page(call, cursor) and len(texts) > 1:
        return [*texts, texts[0]], at - 1
    return texts, at


def is_looping(call: GraphCall, cursor: TokenCursor) -> bool:
    """Whether this page of a walk is in the loop or after its start."""
    knobs = call.tenant.options
    if (
        not knobs.loop
        or cursor.mode is TokenMode.ROUND_START
        or cursor.page_number < knobs.loop_start_page
    ):
        return False
    return not knobs.loop_paths or call.path_template in knobs.loop_paths


def choose_next_cursor(
    call: GraphCall, cursor: TokenCursor, planned: TokenCursor | None
) -> TokenCursor | None:
    """Return the next link's cursor: as planned (None: the walk ends), or back into the loop."""
    if not is_looping(call, cursor):
        return planned
    loop = call.tenant.options.loop
    if loop == "same":
        return cursor
    if loop == "cycle":
        return _continue_cycle(call, cursor, planned)
    if loop == "again":
        return planned or _restart(cursor)
    return replace(cursor, page_number=cursor.page_number + 1)


def _continue_cycle(
    call: GraphCall, cursor: TokenCursor, planned: TokenCursor | None
) -> TokenCursor:
    knobs = call.tenant.options
    name = (
        f"{call.path} {cursor.mode} {cursor.epoch} {cursor.select_mask} {cursor.next_round_at} "
        f"{cursor.page_size}"
    )
    if cursor.page_number == knobs.loop_start_page:
        call.tenant.loop_starts[name] = cursor
    start = call.tenant.loop_starts.get(name, cursor)
    if planned is None or cursor.page_number >= start.page_number + knobs.loop_length - 1:
        return start
    return planned


def _restart(cursor: TokenCursor) -> TokenCursor:
    at = cursor.next_round_at if cursor.mode is TokenMode.ROUND else 0
    return replace(cursor, position=at, offset=0, page_number=cursor.page_number + 1)
