"""The page of operators: HTML on the same looks, filters and actions as the API."""
