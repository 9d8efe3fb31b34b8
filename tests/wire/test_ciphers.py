"""The names of cipher suites."""

from __future__ import annotations

import subprocess

import pytest

from blocksmtp.wire.ciphers import split_by_protocol, standard_name
from tests.interop.conftest import find_program

# From the registry of TLS cipher suites at IANA, one of each kind that OpenSSL names its own way.
KNOWN = {
    "TLS_AES_128_GCM_SHA256": "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384": "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256": "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-RSA-AES256-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
    "ECDHE-ECDSA-AES128-SHA": "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "ECDHE-ECDSA-AES128-CCM": "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
    "ECDHE-ARIA128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_ARIA_128_GCM_SHA256",
    "DHE-RSA-AES256-GCM-SHA384": "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
    "DHE-DSS-AES128-SHA256": "TLS_DHE_DSS_WITH_AES_128_CBC_SHA256",
    "DHE-RSA-AES256-CCM8": "TLS_DHE_RSA_WITH_AES_256_CCM_8",
    "DHE-RSA-CAMELLIA256-SHA": "TLS_DHE_RSA_WITH_CAMELLIA_256_CBC_SHA",
    "AES128-SHA": "TLS_RSA_WITH_AES_128_CBC_SHA",
    "AES256-GCM-SHA384": "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "CAMELLIA128-SHA256": "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA256",
    "DES-CBC3-SHA": "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "ECDHE-RSA-DES-CBC3-SHA": "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "RC4-MD5": "TLS_RSA_WITH_RC4_128_MD5",
    "NULL-SHA256": "TLS_RSA_WITH_NULL_SHA256",
    "ADH-AES128-SHA": "TLS_DH_anon_WITH_AES_128_CBC_SHA",
    "AECDH-NULL-SHA": "TLS_ECDH_anon_WITH_NULL_SHA",
}


@pytest.mark.parametrize(("name", "standard"), KNOWN.items())
def test_a_known_suite_has_its_iana_name(name: str, standard: str) -> None:
    assert standard_name(name) == standard


@pytest.mark.parametrize(
    "name",
    [
        *("", "BOGUS", "ECDHE-RSA-", "ECDHE-RSA-BOGUS", "BOGUS-AES128-SHA", "AES128", "AES128-GCM"),
        *("AES192-SHA", "AES128-CCM-SHA256", "PSK-AES128-CBC-SHA", "GOST2012-GOST8912-GOST8912"),
        *("AES128-SHA\n", "\nAES128-SHA"),
    ],
)
def test_an_unknown_suite_has_none(name: str) -> None:
    assert standard_name(name) is None


@pytest.mark.interop
def test_all_suites_that_openssl_lists_with_certificates() -> None:
    every = "ALL:COMPLEMENTOFALL:!PSK:!SRP:!aGOST:@SECLEVEL=0"
    listed = subprocess.run(
        [find_program("openssl"), "ciphers", "-stdname", every],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {}
    for line in listed.stdout.splitlines():
        standard, _, name, *_ = line.split()
        names[name] = standard
    assert len(names) > 50
    assert {name: standard_name(name) for name in names} == names


@pytest.mark.parametrize(
    ("ciphers", "older", "newer"),
    [
        ("ECDHE+AESGCM:!aNULL", "ECDHE+AESGCM:!aNULL", ""),
        ("TLS_AES_128_GCM_SHA256", "", "TLS_AES_128_GCM_SHA256"),
        ("AES128-SHA, TLS_AES_128_GCM_SHA256;;DEFAULT", "AES128-SHA:DEFAULT", None),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", ""),
        ("ALL:@SECLEVEL=0", "ALL:@SECLEVEL=0", ""),
        ("@SECLEVEL=0", "DEFAULT:@SECLEVEL=0", ""),
        ("TLS_AES_128_GCM_SHA256:@SECLEVEL=0", "DEFAULT:@SECLEVEL=0", None),
    ],
)
def test_a_cipher_string_is_split_by_protocol(ciphers: str, older: str, newer: str | None) -> None:
    expected = "TLS_AES_128_GCM_SHA256" if newer is None else newer
    assert split_by_protocol(ciphers) == (older, expected)


def test_a_cipher_string_that_names_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^ciphers"):
        split_by_protocol(" : ")
