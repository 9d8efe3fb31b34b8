"""SASLprep: making equal what people take for the same name or password (RFC 4013)."""

from __future__ import annotations


def saslprep(text: str) -> str:
    """`text` prepared as a stored string. Raises ValueError for what may be in none.

    The tables are those of Unicode 3.2, as the profile wants it (RFC 3454, section 7).
    """
    if text.isascii() and text.isprintable():
        return text
    import stringprep  # here, since few servers have a use for it, or clients for other characters
    import unicodedata

    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in text
        if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        *(stringprep.in_table_c3, stringprep.in_table_c4, stringprep.in_table_c5),
        *(stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8),
        *(stringprep.in_table_c9, stringprep.in_table_a1),
    )
    if any(table(char) for char in prepared for table in prohibited):
        raise ValueError("text holds a character that names and passwords may not hold")
    # Section 6 of RFC 3454: what runs from right to left does so from its first to its last.
    if any(stringprep.in_table_d1(char) for char in prepared):
        mixed = any(stringprep.in_table_d2(char) for char in prepared)
        ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
        if mixed or not ends:
            raise ValueError("text runs in both directions")
    return prepared
