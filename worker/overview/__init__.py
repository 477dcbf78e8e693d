"""What is true of the whole fleet now, for people, programs and monitors."""
