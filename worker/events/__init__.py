"""Change events: written with the rows they tell of, checked against them, and delivered."""
