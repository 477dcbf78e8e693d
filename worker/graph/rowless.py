"""Objects that stand for no row, such as a user without a manager."""

from models.resource import DeletedReason, Resource
from worker.graph.page import Page, RejectedObject


def drop_rowless(page: Page, resource: Resource, *, is_whole: bool) -> None:
    """Turn the objects of a page that stand for no row into removals of the row.

    ``is_whole`` says that each object has all its properties; in a round, one that was not sent has
    not changed. A value that could not be read proves nothing: the object is a reject.
    """
    if not resource.stored_if:
        return
    places = [resource.column_names.index(name) for name in resource.stored_if]
    for key, item in list(page.rows.items()):
        if any(item.row[place] is not None for place in places):
            continue
        if faults := page.faults.get(key):
            page.rejects.append(RejectedObject(key, "; ".join(faults.values())))
        elif is_whole or any(item.present >> place & 1 for place in places):
            page.removed.setdefault(key, DeletedReason.PERMANENTLY_DELETED)
        page.drop(key)
