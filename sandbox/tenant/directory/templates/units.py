"""Administrative units. They are few, so each is generated completely."""

from random import Random

from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.templates.sample_names import CITIES, DEPARTMENTS
from sandbox.tenant.directory.templates.template import Props


def make_unit(seed: int, number: int) -> Props:
    rng = Random(f"{seed}/unit/{number}")
    city = rng.choice(CITIES)[0]
    props: Props = {
        # The scopes of generated role assignments name units with these ids.
        "id": guid_from_parts(seed, number),
        "displayName": f"{city} {rng.choice(DEPARTMENTS)} {number}",
        "isMemberManagementRestricted": rng.random() < 0.2,
        "membershipType": "Assigned",
    }
    if rng.random() < 0.6:
        props["description"] = f"Everybody and everything in {city}"
    if rng.random() < 0.2:
        props["visibility"] = "HiddenMembership"
    if rng.random() < 0.2:
        props |= {
            "membershipType": "Dynamic",
            "membershipRule": f'(user.city -eq "{city}")',
            "membershipRuleProcessingState": rng.choice(("On", "Paused")),
        }
    return props
