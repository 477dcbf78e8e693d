"""Simulates events of production for one customer, for the control API and its commands.

Every function returns what it did, so that a command can print it.
"""

from typing import Any

from sandbox.tenant.directory.fields import KINDS, OTHERS, PERMISSIONS
from sandbox.tenant.directory.object_store import LifecycleState
from sandbox.tenant.directory.options import LICENCES
from sandbox.tenant.errors import NangoError
from sandbox.tenant.nango.connections import NangoConnection
from sandbox.tenant.nango.service import Nango

REFUSABLE = (*PERMISSIONS, "organization")
"""Resources whose permission can be refused."""

RESTORABLE = ("users", "groups")
DELETABLE = (*RESTORABLE, "sites", *(one.resource for one in (*KINDS, *OTHERS)))

JsonObject = dict[str, Any]


def find_connections(nango: Nango, name: object) -> list[NangoConnection]:
    """Return the connections with this id, prefix of an id, or name of the organization."""
    everybody = [*nango.connections, *nango.disconnected]
    if name is None:
        return everybody
    said = str(name).casefold()
    exact = [one for one in everybody if said in _list_names(one)]
    found = exact or [one for one in everybody if said and one.connection_id.startswith(said)]
    if not found:
        known = ", ".join(one.tenant.display_name for one in everybody[:10])
        raise NangoError(404, "unknown_connection", f"There is no connection {name}; of: {known}.")
    if len(found) > 1:
        ids = ", ".join(one.connection_id for one in found)
        raise NangoError(400, "ambiguous", f"'{name}' may mean {ids}.")
    return found


def _list_names(connection: NangoConnection) -> tuple[str, ...]:
    name, key = connection.connection_id, connection.provider_config_key
    return name.casefold(), f"{key}/{name}".casefold(), connection.tenant.display_name.casefold()


def list_customers(nango: Nango) -> JsonObject:
    """List every customer and its simulated problems."""
    return {
        "customers": [
            {
                "connection_id": one.connection_id,
                "name": one.tenant.display_name,
                "users": one.tenant.users.count_live(),
                "troubles": list(_list_problems(nango, one)),
            }
            for one in (*nango.connections, *nango.disconnected)
        ]
    }


def _list_problems(nango: Nango, connection: NangoConnection) -> list[str]:
    refresh = connection.refresh
    return [
        *(["disconnected"] if connection in nango.disconnected else []),
        *(["consent revoked"] if refresh.fails or refresh.revoked else []),
        *([] if connection.tenant.options.licences else ["no licence"]),
        *(f"{resource} refused" for resource in sorted(connection.refused_resources)),
    ]


def delete_objects(nango: Nango, asked: JsonObject) -> JsonObject:
    """Delete a number of live objects, or a share in percent, oldest first."""
    (connection,) = _find_connection(nango, asked)
    tenant, resource = connection.tenant, _parse_resource(asked, DELETABLE, "users")
    with tenant.lock:
        shelf = tenant.store(resource)
        live = list(shelf.iterate_live())
        number = _parse_amount(asked, len(live))
        for index in live[:number]:
            props = shelf.props_at(index)
            match resource:
                case "users":
                    tenant.delete_user(str(props["id"]))
                case "groups":
                    tenant.delete_group(str(props["id"]))
                case "sites":
                    tenant.delete_site(str(props["id"]))
                case _:
                    tenant.delete_object(resource, str(props["id"]))
    return _build_result(connection, resource=resource, deleted=number, left=len(live) - number)


def restore_objects(nango: Nango, asked: JsonObject) -> JsonObject:
    """Restore every deleted user or group that can be restored; others cannot."""
    (connection,) = _find_connection(nango, asked)
    tenant, resource = connection.tenant, _parse_resource(asked, RESTORABLE, "users")
    with tenant.lock:
        shelf = tenant.store(resource)
        gone = [
            number
            for number, one in shelf.overlay.items()
            if one.state is LifecycleState.SOFT_DELETED
        ]
        for number in gone:
            if resource == "users":
                tenant.restore_user(shelf.id_at(number))
            else:
                tenant.restore_group(shelf.id_at(number))
    return _build_result(connection, resource=resource, restored=len(gone))


def set_permission(nango: Nango, asked: JsonObject) -> JsonObject:
    """Refuse a resource to a connection, with 403 from Graph, or grant it again."""
    (connection,) = _find_connection(nango, asked)
    resource, granted = _parse_resource(asked, REFUSABLE, ""), _parse_flag(asked, "granted")
    (connection.refused_resources.discard if granted else connection.refused_resources.add)(
        resource
    )
    return _build_result(connection, resource=resource, granted=granted)


def set_licensed(nango: Nango, asked: JsonObject) -> JsonObject:
    """Let the customer have the licences that some resources need, or none of them."""
    (connection,) = _find_connection(nango, asked)
    licensed = _parse_flag(asked, "licensed")
    connection.tenant.options.licences = set(LICENCES) if licensed else set()
    return _build_result(connection, licensed=licensed)


def set_consent(nango: Nango, asked: JsonObject) -> JsonObject:
    """Withdraw the customer's consent, so that no token can be fetched, or give it again."""
    (connection,) = _find_connection(nango, asked)
    given = _parse_flag(asked, "given")
    if given:
        connection.refresh.reauthorize()
    else:
        connection.refresh.fails = True
    return _build_result(connection, given=given)


def set_connected(nango: Nango, asked: JsonObject) -> JsonObject:
    """Delete the connection in Nango, or create it again."""
    (connection,) = _find_connection(nango, asked)
    connected = _parse_flag(asked, "connected")
    if connected and connection in nango.disconnected:
        nango.reconnect(connection)
    elif not connected and connection in nango.connections:
        nango.disconnect(connection)
    return _build_result(connection, connected=connected)


def _find_connection(nango: Nango, asked: JsonObject) -> list[NangoConnection]:
    if asked.get("connection_id") is None:
        raise NangoError(400, "invalid_body", "'connection_id' has to name a connection.")
    return find_connections(nango, asked["connection_id"])


def _parse_resource(asked: JsonObject, allowed: tuple[str, ...], default: str) -> str:
    resource = str(asked.get("resource", default))
    if resource not in allowed:
        raise NangoError(400, "invalid_body", f"'resource' has to be one of {', '.join(allowed)}.")
    return resource


def _parse_flag(asked: JsonObject, name: str) -> bool:
    value = asked.get(name)
    if not isinstance(value, bool):
        raise NangoError(400, "invalid_body", f"'{name}' has to be true or false.")
    return value


def _parse_amount(asked: JsonObject, live: int) -> int:
    number, percent = asked.get("n"), asked.get("percent")
    for value, most in ((number, 10**9), (percent, 100)):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most
        if value is not None and not fits:
            raise NangoError(400, "invalid_body", f"A number from 1 to {most:,} is wanted.")
    if (number is None) == (percent is None):
        raise NangoError(400, "invalid_body", "Either 'n' or 'percent' is wanted.")
    wanted = number if percent is None else -(-live * percent // 100)
    return min(int(wanted or 0), live)


def _build_result(connection: NangoConnection, **done: object) -> JsonObject:
    name = connection.tenant.display_name
    return {"connection_id": connection.connection_id, "name": name, **done}
