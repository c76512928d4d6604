"""Commands of `nvision-hub`. One module for each command or group of related commands."""
