"""What happens to customers in production, on demand, for the control API and its commands.

Every act answers with what it did, so that a command can say it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.tenant.errors import NangoError
from sandbox.tenant.shelf import State

if TYPE_CHECKING:
    from sandbox.tenant.connections import Connection
    from sandbox.tenant.nango import Nango

PERMITTED = ("users", "groups", "sites", "role_definitions", "role_assignments", "organization")
"""What a permission is for, and may be refused."""

DELETABLE = ("users", "groups", "sites")

Asked = dict[str, Any]


def find(nango: Nango, name: object) -> list[Connection]:
    """Those that a person means: an id or the beginning of one, or the name of the organization."""
    everybody = [*nango.connections, *nango.disconnected]
    if name is None:
        return everybody
    said = str(name).casefold()
    exact = [one for one in everybody if said in _names(one)]
    found = exact or [one for one in everybody if said and one.connection_id.startswith(said)]
    if not found:
        known = ", ".join(one.tenant.display_name for one in everybody[:10])
        raise NangoError(404, "unknown_connection", f"There is no connection {name}; of: {known}.")
    if len(found) > 1:
        ids = ", ".join(one.connection_id for one in found)
        raise NangoError(400, "ambiguous", f"'{name}' may mean {ids}.")
    return found


def _names(connection: Connection) -> tuple[str, ...]:
    name, key = connection.connection_id, connection.provider_config_key
    return name.casefold(), f"{key}/{name}".casefold(), connection.tenant.display_name.casefold()


def listed(nango: Nango) -> Asked:
    """Every customer, and what was done to it."""
    return {
        "customers": [
            {
                "connection_id": one.connection_id,
                "name": one.tenant.display_name,
                "users": one.tenant.users.live_count(),
                "troubles": list(_troubles(nango, one)),
            }
            for one in (*nango.connections, *nango.disconnected)
        ]
    }


def _troubles(nango: Nango, connection: Connection) -> list[str]:
    refresh = connection.refresh
    return [
        *(["disconnected"] if connection in nango.disconnected else []),
        *(["consent revoked"] if refresh.fails or refresh.revoked else []),
        *(f"{resource} refused" for resource in sorted(connection.refused)),
    ]


def delete(nango: Nango, asked: Asked) -> Asked:
    """Delete a number of live objects, or a share of them in percent, in the order of their age."""
    (connection,) = _one(nango, asked)
    tenant, resource = connection.tenant, _chosen(asked, DELETABLE, "users")
    with tenant.lock:
        shelf = tenant.shelf(resource)
        live = list(shelf.live())
        number = _number(asked, len(live))
        for index in live[:number]:
            props = shelf.props(index)
            match resource:
                case "users":
                    tenant.delete_user(str(props["id"]))
                case "groups":
                    tenant.delete_group(str(props["id"]))
                case _:
                    tenant.delete_site(str(props["id"]))
    return _about(connection, resource=resource, deleted=number, left=len(live) - number)


def restore(nango: Nango, asked: Asked) -> Asked:
    """Restore every user or group that was deleted and can be; sites have no way back."""
    (connection,) = _one(nango, asked)
    tenant, resource = connection.tenant, _chosen(asked, DELETABLE[:2], "users")
    with tenant.lock:
        shelf = tenant.shelf(resource)
        gone = [number for number, one in shelf.overlay.items() if one.state is State.SOFT]
        for number in gone:
            if resource == "users":
                tenant.restore_user(shelf.id_at(number))
            else:
                tenant.restore_group(shelf.id_at(number))
    return _about(connection, resource=resource, restored=len(gone))


def permit(nango: Nango, asked: Asked) -> Asked:
    """Refuse a resource to a connection, or grant it again: 403 from Graph."""
    (connection,) = _one(nango, asked)
    resource, granted = _chosen(asked, PERMITTED, ""), _flag(asked, "granted")
    (connection.refused.discard if granted else connection.refused.add)(resource)
    return _about(connection, resource=resource, granted=granted)


def consent(nango: Nango, asked: Asked) -> Asked:
    """Withdraw the customer's consent, so that no token can be had, or give it again."""
    (connection,) = _one(nango, asked)
    given = _flag(asked, "given")
    if given:
        connection.refresh.renewed()
    else:
        connection.refresh.fails = True
    return _about(connection, given=given)


def connect(nango: Nango, asked: Asked) -> Asked:
    """Delete the connection in Nango, or make it again."""
    (connection,) = _one(nango, asked)
    connected = _flag(asked, "connected")
    if connected and connection in nango.disconnected:
        nango.reconnect(connection)
    elif not connected and connection in nango.connections:
        nango.disconnect(connection)
    return _about(connection, connected=connected)


def _one(nango: Nango, asked: Asked) -> list[Connection]:
    if asked.get("connection_id") is None:
        raise NangoError(400, "invalid_body", "'connection_id' has to name a connection.")
    return find(nango, asked["connection_id"])


def _chosen(asked: Asked, known: tuple[str, ...], default: str) -> str:
    resource = str(asked.get("resource", default))
    if resource not in known:
        raise NangoError(400, "invalid_body", f"'resource' has to be one of {', '.join(known)}.")
    return resource


def _flag(asked: Asked, name: str) -> bool:
    value = asked.get(name)
    if not isinstance(value, bool):
        raise NangoError(400, "invalid_body", f"'{name}' has to be true or false.")
    return value


def _number(asked: Asked, live: int) -> int:
    number, percent = asked.get("n"), asked.get("percent")
    for value, most in ((number, 10**9), (percent, 100)):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most
        if value is not None and not fits:
            raise NangoError(400, "invalid_body", f"A number from 1 to {most:,} is wanted.")
    if (number is None) == (percent is None):
        raise NangoError(400, "invalid_body", "Either 'n' or 'percent' is wanted.")
    wanted = number if percent is None else -(-live * percent // 100)
    return min(int(wanted or 0), live)


def _about(connection: Connection, **done: object) -> Asked:
    name = connection.tenant.display_name
    return {"connection_id": connection.connection_id, "name": name, **done}
