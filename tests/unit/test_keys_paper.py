from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import segno
import zxingcpp

from donjon.core.errors import KeyNotAvailable
from donjon.keys import kit_paper, kit_text
from donjon.keys.argon2id import Cost
from donjon.keys.recovery import RecoveryKit, kit_to_text, read_kit

CHEAP = Cost(memory_kib=8 * 1024, passes=1, lanes=1)
PLAIN = RecoveryKit.generate(
    vault_id=bytes(16), vault_name="<prod> & co", vault_url="s3://b/p", created_at=5, with_root=True
)
LONG = replace(PLAIN, vault_name="n" * 64, vault_url="u" * 512)
KITS = pytest.mark.parametrize("kit", [PLAIN, LONG], ids=["usual", "longest"])


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self._in_pre = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in_pre |= tag == "pre"
        assert not {"src", "href", "onload"} & dict(attrs).keys()

    def handle_endtag(self, tag: str) -> None:
        self._in_pre &= tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._in_pre:
            self.text += data


def _decode(code: segno.QRCode) -> str:
    rows = [bytes(255 * (1 - bit) for bit in row) for row in code.matrix_iter(scale=4, border=4)]
    image = memoryview(b"".join(rows)).cast("B", (len(rows), len(rows[0])))
    (found,) = zxingcpp.read_barcodes(image)
    return str(found.text)


@KITS
def test_a_scanner_reads_the_kit(kit: RecoveryKit) -> None:
    payload = kit_text.to_payload(kit_to_text(kit, "secret", cost=CHEAP), "kit")
    code = kit_paper._qr(kit_text.to_qr(payload))
    assert (code.mode, code.error) == ("alphanumeric", "M")
    assert read_kit(_decode(code), lambda: "secret") == kit


@KITS
def test_the_page_holds_the_kit_and_its_code(kit: RecoveryKit) -> None:
    text = kit_to_text(kit)
    html = kit_paper.printable(text)
    page = _Page()
    page.feed(html)
    assert page.text == text
    assert read_kit(page.text) == kit
    drawn = io.BytesIO()
    kit_paper._qr(kit_text.to_qr(kit_text.to_payload(text, "kit"))).save(
        drawn, kind="svg", border=4, dark="#000"
    )
    path = re.compile(r'<path[^>]* d="([^"]+)"')
    assert path.findall(drawn.getvalue().decode())[-1] == path.findall(html)[-1]


def test_the_page_loads_and_runs_nothing() -> None:
    html = kit_paper.printable(kit_to_text(PLAIN))
    page = _Page()
    page.feed(html)
    assert not {"script", "link", "img", "iframe", "form", "object"} & set(page.tags)
    assert "default-src 'none'" in html
    assert "&lt;prod&gt; &amp; co" in html
    assert "<prod>" not in html


def test_a_scanned_code_can_be_printed_again() -> None:
    text = kit_to_text(PLAIN)
    code = kit_text.to_qr(kit_text.to_payload(text, "kit"))
    assert kit_paper.printable(code) == kit_paper.printable(text)


def test_the_terminal_shows_the_same_code() -> None:
    text = kit_to_text(PLAIN)
    matrix = [
        list(row)
        for row in kit_paper._qr(kit_text.to_qr(kit_text.to_payload(text, "kit"))).matrix_iter(border=4)
    ]
    shown = kit_paper.qr_terminal(text).splitlines()
    # Two rows of the code share a line; light modules are drawn, dark ones are left out.
    halves = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    for number in range(len(matrix) // 2):
        line = [halves[character] for character in shown[number]]
        assert [top for top, _ in line] == matrix[2 * number]
        assert [bottom for _, bottom in line] == matrix[2 * number + 1]
    assert len(shown[0]) <= 90


def test_a_damaged_kit_is_not_printed() -> None:
    text = kit_to_text(PLAIN).replace("\n02 ", "\n03 ")
    for show in (kit_paper.printable, kit_paper.qr_terminal):
        with pytest.raises(KeyNotAvailable, match="line 02"):
            show(text)
