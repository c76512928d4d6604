"""The hub: its composition from the configuration, checks of the machine, its run, and reloads."""
