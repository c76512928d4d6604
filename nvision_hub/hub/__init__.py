"""The hub: composition from the configuration, checks of the machine, the run, and reloads."""
