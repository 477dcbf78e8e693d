"""Parts about the members of a group have the name of the edges, as one parent may have several."""

from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

_RENAME = """
    update sync.unresolved u set resource = '{new}'
     where u.resource = '{old}' and u.kind = 'members'
       and not exists (select from sync.unresolved n
            where n.connection_id = u.connection_id and n.resource = '{new}'
              and n.kind = u.kind and n.key = u.key)
"""
_DROP = "delete from sync.unresolved where resource = '{old}' and kind = 'members'"


def upgrade() -> None:
    _rename(old="groups", new="group_members")


def downgrade() -> None:
    _rename(old="group_members", new="groups")


def _rename(*, old: str, new: str) -> None:
    op.execute(_RENAME.format(old=old, new=new))
    op.execute(_DROP.format(old=old))
