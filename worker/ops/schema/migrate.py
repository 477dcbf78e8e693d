"""Migrates a database to the schema of this release or to another revision."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, Index, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from migrations.views.install import (
    FIRST_REVISION,
    Grants,
    drop_views,
    install_possible_views,
    install_views,
    restore_grants,
)
from migrations.views.view import ViewInUse
from migrations.walls.install import grant_to_readers, install_walls
from models.tables import metadata
from worker.core.errors import ConfigurationError, RetryLater
from worker.events.partitions import ensure_partitions
from worker.ops.schema.revisions import explain_lock_wait, is_upgrade, resolve_revision
from worker.store.engine import Database, create_mirror_engine, get_driver_connection
from worker.store.errors import get_sql_state, translate_error
from worker.store.indexes import rebuild_invalid_indexes
from worker.store.migration_lock import LockWaitObserver, MigrationLimits, lock_migration
from worker.store.schema_version import (
    FOLDER,
    get_newest_revision,
    list_revisions,
    load_revision_in,
)
from worker.store.state.privileges import store_privileges
from worker.store.state.product_names import store_product_names
from worker.store.state.pseudonym_key import ensure_pseudonym_key
from worker.store.state.register import register_resources

OnStep = Callable[[int, int], None]
"""Called with the number of revisions that are done, and that of all."""

GAVE_UP_STATES = ("40P01", "55P03", "57014")
"""SQL states of a statement that waited too long or was canceled."""


def ignore_step(_done: int, _total: int) -> None:
    """Ignore the progress of a migration."""


OnNote = Callable[[str], None]
"""Called with a sentence about views that were made again, or what was left undone."""


def ignore_note(_sentence: str) -> None:
    """Ignore what was made again or left undone."""


def migrate(
    database: Database,
    revision: str = "head",
    limits: MigrationLimits | None = None,
    on_step: OnStep = ignore_step,
    on_note: OnNote = ignore_note,
) -> tuple[str | None, str | None]:
    """Migrate up or down, and return the revisions before and after.

    Raises ServerUnavailable, ConfigurationError, RetryLater, NotFound.

    Runs under an advisory lock with timeouts, so that concurrent runs and busy databases are safe.
    After an interruption, the next run continues where it stopped.
    """
    # A pooler may have few sessions, and a migration needs two.
    database.close()
    engine = create_mirror_engine(database.url)
    try:
        with lock_migration(engine, limits) as observer, _explain_lock_wait(engine, observer):
            return _run_migrations(engine, revision, on_step, on_note)
    except (SQLAlchemyError, psycopg.Error) as error:
        origin = _find_database_error(error)
        if origin is None:
            raise
        raise translate_error(origin, database.server) from None
    finally:
        engine.dispose()


def _run_migrations(
    engine: Engine, asked: str, on_step: OnStep, on_note: OnNote
) -> tuple[str | None, str | None]:
    before = _read_revision(engine)
    known = list_revisions()
    wanted = resolve_revision(asked, before, known)
    up = is_upgrade(before, wanted)
    if up and before is not None:
        _rebuild_indexes(engine)
    grants = [] if up else _drop_views(engine, before)
    if wanted != before:
        with engine.connect() as connection:
            config = _build_alembic_config()
            config.attributes["connection"] = connection
            config.attributes["on_version_apply"] = _count_steps(known, before, wanted, on_step)
            (command.upgrade if up else command.downgrade)(config, wanted or "base")
    if wanted is not None:
        with engine.begin() as db:
            ensure_partitions(db)
            register_resources(db)
            store_product_names(db)
            store_privileges(db)
        if wanted == get_newest_revision():
            with engine.begin() as db:
                ensure_pseudonym_key(db)
        if _install_views(engine, wanted, grants) and wanted == before:
            on_note("the views for analysts were made again, as this release has them")
        if wanted == get_newest_revision():
            for sentence in install_walls(engine):
                on_note(sentence)
    return before, wanted


def _drop_views(engine: Engine, revision: str | None) -> Grants:
    if (revision or "") < FIRST_REVISION:
        return []
    with _explain_views_in_use(), engine.begin() as db:
        return drop_views(db)


def _install_views(engine: Engine, revision: str, grants: Grants) -> bool:
    """Return whether those of this release were other ones before."""
    changed = False
    with _explain_views_in_use(), engine.begin() as db:
        if revision == get_newest_revision():
            changed = install_views(db)
        elif revision >= FIRST_REVISION:
            install_possible_views(db)
        restore_grants(db, grants)
        if revision >= FIRST_REVISION:
            grant_to_readers(db)
    return changed


@contextmanager
def _explain_views_in_use() -> Iterator[None]:
    try:
        yield
    except ViewInUse as error:
        raise ConfigurationError(
            f"views of this database use those of Tenant Mirror, whose columns change: {error};"
            " keep their definitions, drop them, run 'tenant-mirror migrate' again, and make them"
            " anew"
        ) from None


def _count_steps(
    known: Sequence[str], before: str | None, wanted: str | None, on_step: OnStep
) -> Callable[..., None]:
    """Return what Alembic is to call after each revision; call ``on_step`` for the first one."""
    places = [0 if one is None else known.index(one) + 1 for one in (before, wanted)]
    total = abs(places[1] - places[0])
    done = count(1)
    on_step(0, total)
    return lambda **_: on_step(next(done), total)


def _build_alembic_config() -> Config:
    config = Config(str(FOLDER / "alembic.ini"))
    config.set_main_option("script_location", str(FOLDER))
    return config


def _read_revision(engine: Engine) -> str | None:
    """Return the database's revision. Raises ConfigurationError if the server is too old."""
    with engine.connect() as db:
        version = get_driver_connection(db).info.server_version
        if version < 150_000:
            raise ConfigurationError(
                f"Postgres {version // 10_000} is too old; Tenant Mirror needs 15 or newer"
            )
        return load_revision_in(db)


def _rebuild_indexes(engine: Engine) -> None:
    """Rebuild indexes that an interrupted migration of this or an earlier release left invalid."""
    names = {
        str(item.name)
        for table in metadata.tables.values()
        for item in (*table.indexes, *table.constraints)
        if isinstance(item, Index | PrimaryKeyConstraint | UniqueConstraint)
    }
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        rebuild_invalid_indexes(db, names)


@contextmanager
def _explain_lock_wait(engine: Engine, observer: LockWaitObserver) -> Iterator[None]:
    """Turn the timeout of a statement that waited for a lock or snapshot into RetryLater."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        origin, holders = _find_database_error(error), observer.holders
        if origin is None or get_sql_state(origin) not in GAVE_UP_STATES or not holders:
            raise
        raise RetryLater(explain_lock_wait(holders, _read_revision(engine)), after=60) from None


def _find_database_error(fault: Exception) -> Exception | None:
    """Return the first database error; a lost connection also makes leaving a block fail."""
    found: BaseException | None = fault
    while found is not None and not isinstance(found, DBAPIError | psycopg.Error):
        found = found.__context__
    return found
