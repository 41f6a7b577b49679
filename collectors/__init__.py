"""Every source of observations: today packets, from captures and interfaces, through ``hopwatch_wire``."""
