"""The room of what people look at."""
