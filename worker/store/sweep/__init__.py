"""Evidence of a walk: seen keys, removals and the candidates for deletion."""
