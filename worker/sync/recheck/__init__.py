"""Read uncertain objects and memberships again."""
