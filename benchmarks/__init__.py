"""Speed, measured side by side: ours, other tools and the limits of the machine in one run."""
