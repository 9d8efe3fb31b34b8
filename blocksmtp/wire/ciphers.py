"""The names of cipher suites: OpenSSL's and IANA's, and how an option that lists them is read."""

from __future__ import annotations

import re

# OpenSSL says nothing of the RSA key exchange, and leaves the RSA of an ECDHE with ARIA out.
_KEY_EXCHANGES = {
    None: "RSA",
    "DHE-RSA": "DHE_RSA",
    "DHE-DSS": "DHE_DSS",
    "ECDHE": "ECDHE_RSA",
    "ECDHE-RSA": "ECDHE_RSA",
    "ECDHE-ECDSA": "ECDHE_ECDSA",
    "ADH": "DH_anon",
    "AECDH": "ECDH_anon",
}
_BLOCK_CIPHER = re.compile(
    r"(?P<cipher>AES|ARIA|CAMELLIA)(?P<bits>128|256)"
    r"(?:-(?P<mode>GCM|CCM8|CCM))?(?:-(?P<digest>SHA|SHA256|SHA384))?"
)
_OTHER_CIPHERS = {
    "CHACHA20-POLY1305": "CHACHA20_POLY1305_SHA256",
    "DES-CBC3-SHA": "3DES_EDE_CBC_SHA",
    "IDEA-CBC-SHA": "IDEA_CBC_SHA",
    "NULL-MD5": "NULL_MD5",
    "NULL-SHA": "NULL_SHA",
    "NULL-SHA256": "NULL_SHA256",
    "RC4-MD5": "RC4_128_MD5",
    "RC4-SHA": "RC4_128_SHA",
    "SEED-SHA": "SEED_CBC_SHA",
}
_KEY_EXCHANGE = re.compile(
    "(?:(" + "|".join(filter(None, reversed(_KEY_EXCHANGES))) + ")-)?(.+)", re.DOTALL
)
_SEPARATORS = re.compile("[:,; ]+")


def standard_name(name: str) -> str | None:
    """The IANA name of the cipher suite that OpenSSL calls `name`; None where there is none known.

    Suites without certificates (PSK, SRP), which a mail server cannot negotiate, are not known.
    """
    if name.startswith("TLS_"):
        return name  # since TLS 1.3 the two agree (RFC 8446, appendix B.4)
    match = _KEY_EXCHANGE.fullmatch(name)
    if match is None:
        return None
    key_exchange, cipher = match.groups()
    encryption = _OTHER_CIPHERS.get(cipher) or _block_cipher(cipher)
    return encryption and f"TLS_{_KEY_EXCHANGES[key_exchange]}_WITH_{encryption}"


def _block_cipher(name: str) -> str | None:
    """`name` as IANA spells it: "AES_128_CBC_SHA" for "AES128-SHA", say."""
    match = _BLOCK_CIPHER.fullmatch(name)
    if match is None:
        return None
    cipher, bits, mode, digest = match.group("cipher", "bits", "mode", "digest")
    if mode in ("CCM", "CCM8"):  # these name no digest
        return None if digest else f"{cipher}_{bits}_{mode.replace('8', '_8')}"
    return digest and f"{cipher}_{bits}_{mode or 'CBC'}_{digest}"


def split_by_protocol(ciphers: str) -> tuple[str, str]:
    """What of an OpenSSL cipher string is for TLS up to 1.2, and what for TLS 1.3.

    Either is empty where nothing is given for it: its default is meant. Raises ValueError where
    nothing is given at all.
    """
    older: list[str] = []
    newer: list[str] = []
    for item in filter(None, _SEPARATORS.split(ciphers)):
        # "_WITH_" tells the standard name of an older suite from one of TLS 1.3.
        is_newer = item.startswith("TLS_") and "_WITH_" not in item
        (newer if is_newer else older).append(item)
    if not older and not newer:
        raise ValueError("ciphers must name at least one cipher")
    if older and all(item.startswith("@") for item in older):
        older.insert(0, "DEFAULT")  # "@SECLEVEL=0" alone would select no cipher
    return ":".join(older), ":".join(newer)
