"""When users last signed in. Graph shows it in lists of users only, if it is asked for."""

from random import Random

from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.templates.sample_names import draw_time
from sandbox.tenant.directory.templates.template import Props

NEVER = "0001-01-01T00:00:00Z"


def make_sign_in(seed: int, index: int) -> Props | None:
    """Return the activity of a generated user; None if there is none."""
    rng = Random(f"{seed}/sign-in/{index}")
    kind = rng.choices(("active", "failed only", "never", "none"), (14, 2, 2, 2))[0]
    if kind == "none":
        return None
    if kind == "never":
        return build_activity(rng)
    tried = draw_time(rng, 2026)
    return build_activity(
        rng,
        interactive=tried,
        other=draw_time(rng, 2026) if rng.random() < 0.5 else NEVER,
        # The first time also moves when a sign-in fails.
        successful=tried if kind == "active" else NEVER,
    )


def build_activity(
    rng: Random, *, interactive: str = NEVER, other: str = NEVER, successful: str = NEVER
) -> Props:
    """Return an activity with these times; a request has no id if it never was."""

    def draw_id(moment: str) -> str:
        return "" if moment == NEVER else guid_from_parts("sign-in", rng.random())

    return {
        "lastSignInDateTime": interactive,
        "lastSignInRequestId": draw_id(interactive),
        "lastNonInteractiveSignInDateTime": other,
        "lastNonInteractiveSignInRequestId": draw_id(other),
        "lastSuccessfulSignInDateTime": successful,
        "lastSuccessfulSignInRequestId": draw_id(successful),
    }
