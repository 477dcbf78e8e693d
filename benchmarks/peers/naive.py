"""A naive script, as most people write it: httpx, and `session.merge` of each object."""

import re
from typing import Any

import httpx
from sqlalchemy import JSON, Column, MetaData, Table, Text, create_engine
from sqlalchemy.orm import Session, registry

from benchmarks.meter import Meter, read_arguments, write_figures


def _to_snake_case(name: str) -> str:
    return re.sub(r"([A-Z]+)", r"_\1", name).lower()


def main() -> None:
    """Load only the first pages, as it is slow."""
    asked = read_arguments()
    names: list[str] = asked["params"]["$select"].split(",")
    columns = [
        Column(_to_snake_case(name), Text, primary_key=True)
        if name == "id"
        else Column(_to_snake_case(name), JSON)
        for name in names
    ]

    class User:
        def __init__(self, **values: Any) -> None:
            for name, value in values.items():
                setattr(self, name, value)

    mapping = registry()
    mapping.map_imperatively(User, Table("users", MetaData(), *columns))
    engine = create_engine(asked["database"].replace("postgresql://", "postgresql+psycopg://"))
    User.__table__.create(engine)  # type: ignore[attr-defined]
    runs = []
    for _ in range(asked["runs"]):
        rows = 0
        with Meter() as meter, httpx.Client(headers=asked["headers"], trust_env=False) as client:
            address: str | None = f"{asked['url']}/proxy/v1.0/users"
            params: dict[str, str] | None = asked["params"]
            for _page in range(asked["pages"]):
                if address is None:
                    break
                page = client.get(address, params=params).raise_for_status().json()
                with Session(engine) as session:
                    for row in page["value"]:
                        session.merge(User(**{_to_snake_case(k): row.get(k) for k in names}))
                    session.commit()
                rows += len(page["value"])
                address, params = page.get("@odata.nextLink"), None
        runs.append({**meter.figures, "rows": rows})
    write_figures({"runs": runs, **runs[-1]})


if __name__ == "__main__":
    main()
