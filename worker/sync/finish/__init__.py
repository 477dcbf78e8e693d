"""End a walk or a round: confirm missing rows, guard against implausible deletions, delete."""
