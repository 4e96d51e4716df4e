"""Values, bodies and headers that no page sends."""

from __future__ import annotations

HUGE = "1e999-here"
"""Stands for a number that no float holds: Python's own ``json`` does not write it."""

TEXTS = [
    "",
    " ",
    "x",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfff",
    "\u202e",
    "é" * 300,
    "💩" * 100,
    "=1+1;=1",
    "../../etc/passwd",
    "<script>",
    "%00",
    "{}",
    "'\"--",
    "x" * 70_000,
    "phantoms",
    "1",
    "-1",
    "1e5",
    "NaN",
    "\r\nX: y",
]

VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**63,
    10**400,
    -(10**30),
    float("nan"),
    float("inf"),
    HUGE,
    [],
    {},
    ["x"],
    [[[]]],
    {"a": {}},
    {"": None},
    *TEXTS,
]

BODIES = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[" * 5000,
    b'{"a":' * 2000,
    b"null",
    b"[]",
    b"0",
    b'"x"',
    b"NaN",
    b'{"task":"\\ud800"}',
    b'{"\\u0000":1}',
    "{}".encode("utf-16"),
    b"\x00" * 100,
    b"--x\r\n\r\n--x--",
    b"a=b&c=%00&d=%ff&=",
    b"{" + b" " * 70_000 + b"}",
]

TYPES = [
    "application/json",
    "application/json; charset=utf-7",
    "text/plain",
    "",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=none",
    "image/png",
    "\xff",
]

RANGES = [
    "bytes=1-2-3",
    "bytes=" + "9" * 5000 + "-",
    "bytes=5-1",
    "bytes=-0",
    "bytes=0-0," * 500,
    "x",
    "bytes=--",
    "bytes=\xb2-",
]

METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]
