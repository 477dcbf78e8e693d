"""Actions of operators: submitted through any face, carried out by workers, always audited."""
