"""The room where findings become alerts that a person acts on."""
