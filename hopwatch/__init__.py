"""hopwatch: an event-driven monitor of data movement in manufacturing plants, judged against what was declared."""
