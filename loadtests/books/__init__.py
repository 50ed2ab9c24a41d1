"""Do the counts add up? Everything is counted from outside: Kafka's topics, the lake's tables, monitoring's answers."""
