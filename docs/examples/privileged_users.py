# ruff: noqa: INP001, T201 - a program of its own, which prints
"""Privileged users of every customer in pandas, asked with the login of a reader.

pip install pandas sqlalchemy 'psycopg[binary]'
python privileged_users.py postgresql://LOGIN:PASSWORD@HOST/DATABASE
"""

import sys

import pandas as pd
import sqlalchemy as sa

QUERY = "select * from analytics.privileged_users"


def main(address: str) -> None:
    with sa.create_engine(address).connect() as db:
        users = pd.read_sql(QUERY, db)
    permanent = users[users["is_permanent"] & users["account_enabled"]]
    print(permanent.groupby("organization")["user_id"].count().sort_values(ascending=False))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1].replace("postgresql://", "postgresql+psycopg://", 1))
