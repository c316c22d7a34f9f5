"""A recovery kit, or a share of one, on paper and on the screen: a page to print, and its QR code.

Both take the text of the file, so they show a kit as it is, protected or not, and need no passphrase.
"""

from __future__ import annotations

import html
import io
from dataclasses import dataclass, field
from typing import Final

import segno

from donjon.keys import kit_payload, kit_text, share_text

#: Level M restores up to 15 % of a code that got stained or torn (ISO/IEC 18004).
_ERROR_LEVEL: Final = "m"

_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
@page {{ margin: 15mm; }}
body {{ font-family: sans-serif; color: #000; background: #fff; }}
pre {{ font: 10pt/1.35 monospace; white-space: pre-wrap; overflow-wrap: anywhere; break-inside: avoid; }}
figure {{ margin: 0; break-inside: avoid; }}
figure svg {{ width: 85mm; height: 85mm; }}
</style>
</head>
<body>
<pre>{text}</pre>
<figure>
{qr}
<figcaption>The same {kind} as a QR code. Save what a scanner reads from it in a file: that file is the
{kind}.</figcaption>
</figure>
</body>
</html>
"""


def printable(text: str) -> str:
    """A page of HTML that needs nothing else, to print and then delete.

    ``text`` is the file of a kit or a share, or the text of a QR code. Raises what ``read_kit`` and
    ``read_share`` raise for one that cannot be read.
    """
    sheet = _sheet(text)
    qr = _qr(sheet.qr).svg_inline(omitsize=True, border=4, dark="#000", light="#fff")
    kind = "share" if share_text.is_share(text) else "kit"
    return _PAGE.format(title=html.escape(sheet.title), text=html.escape(sheet.text), qr=qr, kind=kind)


def qr_terminal(text: str) -> str:
    """The QR code of a kit or a share in block characters, for a dark terminal of about 80 columns."""
    out = io.StringIO()
    _qr(_sheet(text).qr).terminal(out, border=4, compact=True)
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class _Sheet:
    title: str
    text: str = field(repr=False)
    qr: str = field(repr=False)


def _sheet(text: str) -> _Sheet:
    if share_text.is_share(text):
        what = "share"
        found = share_text.read(text, what)
        if found.set is None:
            raise kit_payload.damaged(what, "its sealed kit is missing")
        title = f"Share {found.words.number} of {found.set.count} of the recovery kit of"
        page, code = share_text.to_text(found.words, found.set), share_text.to_qr(found.words, found.set)
        return _Sheet(f"{title} {found.set.head.vault_name}", page, code)
    payload = kit_text.to_payload(text, "recovery kit")
    head, _ = kit_payload.decode(payload, "recovery kit")
    title = f"Recovery kit of {head.vault_name}"
    return _Sheet(title, kit_text.to_text(head, payload), kit_text.to_qr(payload))


def _qr(text: str) -> segno.QRCode:
    return segno.make_qr(text, error=_ERROR_LEVEL, mode="alphanumeric", boost_error=False)
