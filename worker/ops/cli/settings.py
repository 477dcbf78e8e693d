"""The command ``settings``: shows the settings in force."""

import click

from worker.core.secret import SecretStr
from worker.core.settings import SETTINGS, load_settings
from worker.ops.cli.output import json_option, print_json, print_table


@click.command()
@json_option
def settings(as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """Show every setting with its meaning, default and current value (secrets are hidden).

    For each name X, the environment may set X_FILE instead: the path of a file with the value.
    """
    present = load_settings()
    rows = []
    for key, setting in SETTINGS.items():
        rows.append(
            {
                "name": setting.name,
                "value": _render_value(getattr(present, key)),
                "default": _render_value(setting.default),
                "meaning": setting.description,
            }
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        "",
        ["setting", "value", "default", "meaning"],
        [list(row.values()) for row in rows],
        prose=("meaning",),
    )


def _render_value(value: object) -> str | None:
    if isinstance(value, SecretStr):
        return "(hidden)"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or None
    return None if value is None else str(value)
