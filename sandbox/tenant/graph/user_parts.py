"""Users with what is stored apart from them: their manager and their signInActivity."""

import re

from sandbox.tenant.directory.fields import MANAGERS, SIGN_INS, USERS
from sandbox.tenant.directory.object_store import LifecycleState, Projection
from sandbox.tenant.errors import GraphError, build_bad_request
from sandbox.tenant.graph.call import GraphCall, build_list_projection, render_object
from sandbox.tenant.graph.lists import (
    ListPage,
    find_live,
    get_object,
    list_objects,
    render_member,
)
from sandbox.tenant.graph.oddities import is_empty_page, repeat_objects
from sandbox.tenant.http import encode

SIGN_IN = "signInActivity"
_EXPAND = re.compile(r"manager(?:\(\$select=([\w,]+)\))?")


def list_users(call: GraphCall) -> bytes:
    call.check_permission("users")
    options = call.tenant.options
    if not _asks_for_parts(call):
        return list_objects(call, "users", USERS, "users", options.list_page_size)
    _check_parts(call)
    call.query.check_parameters("$select", "$top", "$expand")
    cursor = call.read_list_cursor("users", USERS, options.list_page_size)
    call.check_page_size(cursor.page_size, options.time_out_above)
    if _has_sign_ins(call) and 0 < options.sign_in_max_page < cursor.page_size:
        raise build_bad_request(
            f"Page size {cursor.page_size} is larger than {options.sign_in_max_page}, the most "
            f"for {SIGN_IN}."
        )
    listing = ListPage(call, "users", "users", cursor)
    if is_empty_page(call, cursor):
        return listing.render_empty()
    users, stop = call.tenant.users, cursor.position + cursor.page_size
    view = build_list_projection(USERS, cursor.select_mask)
    texts = [
        _render_user(call, index, view)
        for index in range(cursor.position, min(stop, users.total))
        if users.state_at(index) is LifecycleState.LIVE
    ]
    if stop >= users.total:
        return listing.render(texts)
    texts, stop = repeat_objects(call, cursor, texts, stop)
    return listing.render(texts, stop)


def get_user(call: GraphCall, user_id: str) -> bytes:
    if not _asks_for_parts(call):
        return get_object(call, USERS, "users", user_id)
    call.check_permission("users")
    _check_parts(call)
    call.query.check_parameters("$select", "$expand")
    view = build_list_projection(USERS, call.parse_select(USERS))
    index = find_live(call.tenant.users, user_id)
    return render_object("users", _render_user(call, index, view))


def _asks_for_parts(call: GraphCall) -> bool:
    return _has_sign_ins(call) or "$expand" in call.query.params


def _has_sign_ins(call: GraphCall) -> bool:
    return SIGN_IN in call.query.params.get("$select", "").split(",")


def _check_parts(call: GraphCall) -> None:
    if _has_sign_ins(call):
        call.check_permission(SIGN_INS)
    expand = call.query.params.get("$expand")
    if expand is not None:
        call.check_permission(MANAGERS)
    if expand is not None and not _EXPAND.fullmatch(expand):
        raise GraphError(400, "Request_UnsupportedQuery", f"Only manager is expanded: {expand}")


def _render_user(call: GraphCall, index: int, view: Projection) -> bytes:
    names = tuple(name for name in view.names if name != SIGN_IN)
    pieces = [call.tenant.users.render(index, view._replace(names=names))[1:-1]]
    activity = call.tenant.sign_ins.get(index) if _has_sign_ins(call) else None
    if activity:
        pieces.append(b'"%b":%b' % (SIGN_IN.encode(), encode(activity)))
    found = _EXPAND.fullmatch(call.query.params.get("$expand", ""))
    manager = call.tenant.find_manager(index) if found else None
    if found and manager:
        mask = USERS.parse_select(found[1])
        pieces.append(b'"manager":' + render_member(call, manager, mask))
    return b"{%b}" % b",".join(piece for piece in pieces if piece)
