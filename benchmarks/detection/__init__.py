"""How well the detectors detect: labelled verdicts, what cries wolf, a simulated plant, and real servers."""
