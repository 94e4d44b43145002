"""An alphabet for generated text: the characters that break readers and writers, beside a few plain ones."""

#: Letters, digits and marks; accents, other scripts, emoji; what JSON and CSV escape; every character at which
#: `str.splitlines` breaks; NUL, byte order mark, the last code point. Hypothesis's own alphabet, all of Unicode, takes
#: so long to build in a fresh clone that its health check fails.
CHARACTERS = (
    "abcXYZ019 .,;:-_'/~"
    "éßñİıÅøłжλשع日語한"
    "😀👩🏽\u0301\u200d\u202e"
    '"\\\b\f\n\r\t\v<>&{}[]'
    "\x1c\x1d\x1e\x85\u2028\u2029"
    "\x00\x7f\xa0\ufeff\uffff\U0010ffff"
)
