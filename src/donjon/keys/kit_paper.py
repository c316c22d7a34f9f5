"""A recovery kit on paper and on the screen: a page to print, and its QR code.

Both take the text of a kit file, so they show a kit as it is, protected or not, and need no passphrase.
"""

from __future__ import annotations

import html
import io
from typing import Final

import segno

from donjon.keys import kit_payload, kit_text

#: Level M restores up to 15 % of a code that got stained or torn (ISO/IEC 18004).
_ERROR_LEVEL: Final = "m"

_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="robots" content="noindex">
<title>Recovery kit of {title}</title>
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
<figcaption>The same kit as a QR code. Save what a scanner reads from it in a file: that file is the
kit.</figcaption>
</figure>
</body>
</html>
"""


def printable(text: str) -> str:
    """A page of HTML that needs nothing else, to print and then delete.

    ``text`` is a kit file or the text of a QR code. Raises what ``read_kit`` raises for a
    kit that cannot be read.
    """
    payload = kit_text.to_payload(text, "recovery kit")
    head, _ = kit_payload.decode(payload, "recovery kit")
    page = kit_text.to_text(head, payload)
    qr = _qr(payload).svg_inline(omitsize=True, border=4, dark="#000", light="#fff")
    return _PAGE.format(title=html.escape(head.vault_name), text=html.escape(page), qr=qr)


def qr_terminal(text: str) -> str:
    """The QR code of a kit file in block characters, for a dark terminal of about 80 columns."""
    payload = kit_text.to_payload(text, "recovery kit")
    kit_payload.decode(payload, "recovery kit")
    out = io.StringIO()
    _qr(payload).terminal(out, border=4, compact=True)
    return out.getvalue()


def _qr(payload: bytes) -> segno.QRCode:
    return segno.make_qr(kit_text.to_qr(payload), error=_ERROR_LEVEL, mode="alphanumeric", boost_error=False)
