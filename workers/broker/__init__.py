"""The embedded broker's keeper: runs Valkey, asks it each second whether it lives, ends it last."""
