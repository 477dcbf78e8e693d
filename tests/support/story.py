"""The simulated story, mirrored once for tests that only read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import text

from sandbox.tenant import Nango, Server, Story, TenantClock
from tests.support.databases import DatabaseFactory
from tests.support.nango import reset_nango
from tests.support.synced import sync_by_hand
from worker.core.settings import load_settings
from worker.store.engine import Database
from worker.sync.connections.discover import discover
from worker.wiring import close_runtime, open_runtime

ALPINE: Final = 1
Row = Mapping[str, Any]


@dataclass
class StoryMirror:
    """The mirrored story; ``names`` has the short name of each object by its id."""

    database: Database
    story: Story
    names: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = {key: name for name, key in self.story.ids.items()}

    def ask(self, sql: str, **values: Any) -> list[Row]:
        with self.database.open_transaction() as db:
            return [dict(row) for row in db.execute(text(sql), values).mappings()]


def mirror_story(cluster: DatabaseFactory, nango_server: Server) -> Iterator[StoryMirror]:
    """Yield the story, mirrored with all that is off by default; drop it afterwards."""
    nango: Nango = reset_nango(nango_server)
    url = cluster.create_migrated()
    settings = load_settings(
        database_url=url, nango_host=nango_server.url, nango_secret_key=nango.key
    )
    runtime = open_runtime(settings)
    story = Story(clock=TenantClock(running=True))
    on = {"tenant_mirror": {"resources": {"managers": True, "sign_in_activity": True}}}
    nango.add_connection("alpine", story, metadata=on)
    discover(runtime.database, runtime.nango, settings)
    sync_by_hand(runtime, ALPINE)
    yield StoryMirror(runtime.database, story)
    close_runtime(runtime)
    cluster.drop(url)
