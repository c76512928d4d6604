"""Commands of `nvision-hub`: one module for each command or group of related commands."""
