"""One file per question asked of the flows.

A detector is given events and times and says what it finds; it opens nothing and knows no clock, so a recorded stream
replays to the same findings. Its state is explicit, bounded and made of JSON values.
"""
