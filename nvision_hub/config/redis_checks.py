"""Rules that involve several keys of the section `redis`: what a Cluster needs, and keys that have no effect."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nvision_hub.config.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config.yaml_nodes import YamlNode
    from nvision_hub.errors import Diagnostic

_HASH_TAG: Final = re.compile(r"\{[^}]+\}")
_FILES: Final = ("ca_file", "cert", "key")


def redis_checks(tree: YamlNode) -> Iterator[Diagnostic]:
    """Yield the problems of the section `redis`."""
    redis = tree.child("redis")
    if redis is None or not redis.is_mapping:
        return
    yield from _key_pair(redis)
    url = redis.child("url")
    try:
        address = RedisAddress("embedded") if url is None else RedisAddress.parse(url.text or "")
    except ValueError:  # the models report the invalid address
        return
    if url is not None and address.topology == "cluster":
        yield from _hash_tag(redis, url)
    if address.topology != "sentinel":
        for key in ("sentinel_username", "sentinel_password"):
            if (node := redis.child(key)) is not None and node.text:
                message = "applies only to the address of Sentinels"
                fix = "remove it, or write redis.url: redis+sentinel://host:26379/mymaster"
                yield node.diagnostic("unused_key", message, ("redis", key), fix=fix)
    tls = redis.child("tls")
    if tls is not None and not address.is_encrypted:
        for key in _FILES:
            if (node := tls.child(key)) is not None and node.text:
                message = "applies only to an encrypted connection"
                fix = "remove it, or write rediss:// in place of redis:// in redis.url"
                yield node.diagnostic("unused_key", message, ("redis", "tls", key), fix=fix)


def _hash_tag(redis: YamlNode, url: YamlNode) -> Iterator[Diagnostic]:
    prefix = redis.child("prefix")
    if prefix is None or (prefix.text is not None and not _HASH_TAG.search(prefix.text)):
        message = "needs a hash tag, which keeps all keys of the hub on one node of the Cluster"
        fix = 'write `prefix: "{nvision}"`, and use this prefix in the programs that read results'
        yield (prefix or url).diagnostic("hash_tag_required", message, ("redis", "prefix"), fix=fix)


def _key_pair(redis: YamlNode) -> Iterator[Diagnostic]:
    """Yield a problem if the certificate has no key, or the key has no certificate."""
    tls = redis.child("tls")
    given = {key: node for key in ("cert", "key") if tls is not None and (node := tls.child(key)) and node.text}
    if len(given) == 1:
        (key, node), missing = *given.items(), "key" if "cert" in given else "cert"
        fix = f"set `redis.tls.{missing}`, or remove `redis.tls.{key}`"
        yield node.diagnostic("incomplete_pair", f"needs `{missing}` as well", ("redis", "tls", key), fix=fix)
