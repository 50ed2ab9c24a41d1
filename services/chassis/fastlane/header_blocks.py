"""Header blocks (HPACK, RFC 7541), read as little as possible.

We announce a header table of size 0, so that once the peer has acknowledged it a block carries no state: the same bytes
mean the same fields in every block. Then a block is only split into its fields, names are looked up by their bytes, and
a value is decoded when somebody asks for it. Behind a proxy each call has values of its own (`x-request-id`), so that
remembering whole blocks or fields would remember nothing. Until the acknowledgement the `hpack` library decodes, with
its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hpack import Decoder, HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from services.chassis.fastlane.frames import ErrorCode, PeerError

_STATIC: tuple[tuple[bytes, bytes], ...] = HeaderTable.STATIC_TABLE
_STATIC_NAMES: tuple[bytes, ...] = (b"", *(name for name, _ in _STATIC))
_STATIC_VALUES: tuple[bytes, ...] = (b"", *(bytes([len(value)]) + value for _, value in _STATIC))
_REMEMBERED_BLOCKS, _REMEMBERED_NAMES, _REMEMBERED_VALUES, _REMEMBERED_SHAPES = 16, 1024, 4096, 256
_LONGEST_REMEMBERED, _LONGEST_REMEMBERED_BLOCK, _MOST_REMEMBERED_NAMES = 128, 1024, 64
_FORBIDDEN_NAMES = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED = (b":method", b":scheme", b":path")
_CONTROLS = frozenset({*range(0x20), 0x7F} - {0x09})
_NAME_BYTES = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


K = TypeVar("K")
V = TypeVar("V")


class Malformed(Exception):
    """The fields can be read, but are no request (RFC 9113, section 8.1.1): the stream ends."""


class Shape:
    """The names of a block in their order, checked once for all blocks that have them. Raises Malformed."""

    __slots__ = ("positions",)

    def __init__(self, names: tuple[bytes, ...]) -> None:
        self.positions = {name: at for at, name in enumerate(names)}
        pseudo = [at for at, name in enumerate(names) if name.startswith(b":")]
        if pseudo != list(range(len(pseudo))) or len({names[at] for at in pseudo}) < len(pseudo):
            raise Malformed("a pseudo-header field is repeated or comes after others")
        for name in names:
            _check_name(name)
        missing = [name.decode() for name in _NEEDED if name not in self.positions]
        if missing:
            raise Malformed(f"{missing[0]} is missing")


def _check_name(name: bytes) -> None:
    if name.startswith(b":"):
        if name not in _PSEUDO:
            raise Malformed(f"{name!r} is no pseudo-header field of a request")
    elif name in _FORBIDDEN_NAMES or not name or not _NAME_BYTES.issuperset(name):
        raise Malformed(f"{name!r} is no name of a field")


class Headers:
    """The fields of one request; a value is decoded when it is asked for. Of a repeated name `get` gives the last."""

    __slots__ = ("_raw", "_shape")

    def __init__(self, names: tuple[bytes, ...], raw: Sequence[bytes]) -> None:
        """`raw` are HPACK string literals. Raises Malformed."""
        shape = _shapes.get(names)
        if shape is None:
            shape = Shape(names)
            if len(names) <= _MOST_REMEMBERED_NAMES:
                _remember(_shapes, names, shape, _REMEMBERED_SHAPES)
        self._shape = shape
        self._raw = raw

    def get(self, name: bytes) -> str | None:
        """The value, None if there is none. Raises Malformed if it is no text."""
        at = self._shape.positions.get(name)
        if at is None:
            return None
        raw = self._raw[at]
        found = _values.get(raw)
        return _text(raw) if found is None else found


class BlockReader:
    """Reads the blocks of one connection, in their order."""

    def __init__(self, most_bytes: int, most_fields: int) -> None:
        self._decoder: Decoder | None = Decoder(max_header_list_size=most_bytes)
        self._most_fields = most_fields
        self._blocks: dict[bytes, Headers] = {}

    def forget_table(self) -> None:
        """The peer has acknowledged that we keep no table: from here on blocks carry no state."""
        self._decoder = None

    def read(self, block: bytes) -> Headers:
        """Raises Malformed, or PeerError if the block cannot be read: the peers' tables would differ from then on."""
        if self._decoder is None:
            return self._blocks.get(block) or self._read_stateless(block)
        try:
            fields = self._decoder.decode(block, raw=True)
        except HPACKError as error:
            raise PeerError(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from error
        return Headers(tuple(bytes(name) for name, _ in fields), [literal(bytes(value)) for _, value in fields])

    def _read_stateless(self, block: bytes) -> Headers:
        """A caller without a proxy says the same again and again, so that a few whole blocks are worth remembering."""
        headers = Headers(*_split(block, self._most_fields))
        if len(block) <= _LONGEST_REMEMBERED_BLOCK:
            _remember(self._blocks, block, headers, _REMEMBERED_BLOCKS)
        return headers


def literal(text: bytes) -> bytes:
    """A string literal, not Huffman-coded (RFC 7541, section 5.2)."""
    return _integer(len(text), 7) + text


def field(name: bytes, value: bytes) -> bytes:
    """A field that leaves no trace in any table (RFC 7541, section 6.2.2)."""
    return b"\x00" + literal(name) + literal(value)


def _integer(value: int, prefix_bits: int) -> bytes:
    """RFC 7541, section 5.1, with zeros above the prefix."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([value])
    rest, value = [most], value - most
    while value >= 0x80:
        rest.append(value & 0x7F | 0x80)
        value >>= 7
    rest.append(value)
    return bytes(rest)


def _split(block: bytes, most_fields: int) -> tuple[tuple[bytes, ...], list[bytes]]:
    """Names, and values as string literals, of a block that refers to no table but the static one."""
    names, values = [], []
    at, end = 0, len(block)
    try:
        while at < end:
            first = block[at]
            at += 1
            if first >= 0x80:
                names.append(_STATIC_NAMES[_static(first & 0x7F)])
                values.append(_STATIC_VALUES[first & 0x7F])
                continue
            if 0x20 <= first < 0x40:
                _check_table_size(first, empty_so_far=not names)
                continue
            index = first & (0x3F if first >= 0x40 else 0x0F)
            if index == (0x3F if first >= 0x40 else 0x0F):
                index, at = _continued(block, at, index)
            if index:
                names.append(_STATIC_NAMES[_static(index)])
            else:
                start, at = at, _past_literal(block, at)
                names.append(_names.get(block[start:at]) or _name(block[start:at]))
            start = at
            length = block[at]
            at = at + 1 + (length & 0x7F) if length & 0x7F != 0x7F else _past_literal(block, at)
            values.append(block[start:at])
    except IndexError:
        at = end + 1
    if at != end:
        raise PeerError(ErrorCode.COMPRESSION_ERROR, "header block: it ends within a field")
    if len(names) > most_fields:
        raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, f"header block: more than {most_fields} fields")
    return tuple(names), values


def _static(index: int) -> int:
    if not 1 <= index <= len(_STATIC):
        raise PeerError(ErrorCode.COMPRESSION_ERROR, f"header block: {index} is in no table; ours has size 0")
    return index


def _check_table_size(first: int, *, empty_so_far: bool) -> None:
    if first != 0x20 or not empty_so_far:
        raise PeerError(ErrorCode.COMPRESSION_ERROR, "header block: changes the size of a table that is 0 for good")


def _continued(block: bytes, at: int, value: int) -> tuple[int, int]:
    """An integer that went beyond its prefix, and where it ends (RFC 7541, section 5.1)."""
    for shift in (0, 7, 14, 21):
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise PeerError(ErrorCode.COMPRESSION_ERROR, "header block: an integer is too long")


def _past_literal(block: bytes, at: int) -> int:
    length = block[at] & 0x7F
    at += 1
    if length == 0x7F:
        length, at = _continued(block, at, length)
    return at + length


def _name(raw: bytes) -> bytes:
    name = _decoded(raw)
    if len(raw) <= _LONGEST_REMEMBERED:
        _remember(_names, raw, name, _REMEMBERED_NAMES)
    return name


def _text(raw: bytes) -> str:
    value = _decoded(raw)
    if not _CONTROLS.isdisjoint(value):
        raise Malformed("a field has control characters")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    if len(raw) <= _LONGEST_REMEMBERED:
        _remember(_values, raw, text, _REMEMBERED_VALUES)
    return text


def _remember(memory: dict[K, V], key: K, value: V, most: int) -> None:
    """Who sends ever new things empties it; it never grows beyond `most`."""
    if len(memory) >= most:
        memory.clear()
    memory[key] = value


def _decoded(raw: bytes) -> bytes:
    """The string of a literal that is known to be whole."""
    huffman, length, start = raw[0] & 0x80, raw[0] & 0x7F, 1
    if length == 0x7F:
        length, start = _continued(raw, start, length)
    if not huffman:
        return raw[start:]
    try:
        return decode_huffman(raw[start:])
    except HPACKError as error:
        raise Malformed(f"a Huffman-coded string: {error}") from error


_names: dict[bytes, bytes] = {}
_values: dict[bytes, str] = {}
_shapes: dict[tuple[bytes, ...], Shape] = {}
