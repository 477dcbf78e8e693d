"""Invented people, companies and places. None of them exists."""

from random import Random

from sandbox.tenant.directory.fields import split


def draw_time(rng: Random, year: int | None = None) -> str:
    """Return a random time in Graph's format, with 0, 2, 3 or 7 digits after the second."""
    digits = rng.choice((0, 0, 0, 2, 3, 7))
    fraction = f".{rng.randrange(10**digits):0{digits}d}" if digits else ""
    return (
        f"{year or rng.randrange(2012, 2026)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"
        f"T{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}{fraction}Z"
    )


GIVEN_NAMES = split(
    "Adira Bram Calla Dorin Elske Faro Ginevra Hollis Iseul Jorund Kestrel Lunete Marlo "
    "Nerys Oriel Perrin Quilla Rasmin Solvei Tamsin Ulric Vesper Wendel Xanthe Yorick Zoë "
    "Łucja Åsmund Étienne Björk Ṣafiya Σοφία Ивáра 凛花"
)
SURNAMES = split(
    "Amberfield Brackwater Cindervale Dunmarrow Eastlake-Moss Fennimore Galloway-Reed "
    "Harrowgate Inkwell Juniper Kettleby Lanternjaw Merriwick Nettlefold Orchardson "
    "Pepperell Quickthorn Ravenscroft Silverbrook Thistledown Umberlee Vellacourt "
    "Whistlewood Yarborough Zephyrine O'Dell d'Arcante Ñandú Øverland Müllerin"
)
DEPARTMENTS = split("Finance Sales Research Support Legal Facilities Engineering Marketing")
JOBS = ("Analyst", "Engineer", "Team Lead", "Accountant", "Designer", "Clerk", "Director", "Nurse")
COMPANIES = ("Contoso Ltd", "Fabrikam GmbH", "Tailspin Toys", "Litware, Inc.", "Woodgrove Bank")
CITIES = (
    ("Norrvik", "Norrland", "Sweden", "SE", "sv-SE"),
    ("Port Amsel", "Holstein", "Germany", "DE", "de-DE"),
    ("Glen Morra", "Ulster", "Ireland", "IE", "en-IE"),
    ("Saint-Orme", "Bretagne", "France", "FR", "fr-FR"),
    ("Lake Tolliver", "WA", "United States", "US", "en-US"),
)
STREETS = ("Quarry Lane", "Harbour Row", "Lindenallee", "Rue des Sources", "Old Mill Road")
TEAMS = split(
    "Budget Harvest Lantern Orbit Compass Granite Meadow Beacon Saffron Tundra Willow Zenith"
)
