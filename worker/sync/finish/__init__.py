"""End a walk or a round: confirm what is missing, guard, delete."""
