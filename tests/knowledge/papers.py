"""Files that tests hand in: honest ones, and ones made to break what reads them."""

import io
import zipfile

import docx
from fpdf import FPDF
from pypdf import PdfReader, PdfWriter

TYPES = '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">{}</Types>'
MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
MACROS = "application/vnd.ms-word.document.macroEnabled.main+xml"
RELS = '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{}</Relationships>'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf(*pages: str) -> bytes:
    made = FPDF()
    made.set_font("helvetica", size=12)
    for text in pages:
        made.add_page()
        if text:
            made.multi_cell(0, text=text)
    return bytes(made.output())


def locked_pdf(password: str, *, owner_only: bool = False) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("The secret."))))
    writer.encrypt("" if owner_only else password, password, algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def raw_pdf(*objects: str, stream: bytes = b"") -> bytes:
    """A PDF of these objects, numbered from 1; the first is its catalogue. `stream` goes where an object says STREAM."""
    out, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + body.encode().replace(b"STREAM", b"stream\n" + stream + b"\nendstream")
        out += b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    return out + f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()


def pdf_with(stream: bytes, filters: str = "") -> bytes:
    """One page whose content this is."""
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>",
        f"<< /Length {len(stream)} {filters} >>\nSTREAM",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    return raw_pdf(*objects, stream=stream)


def pdf_of_a_million_pages() -> bytes:
    """Six levels of a page tree, each of which names the next one ten times."""
    kids = [f"<< /Type /Pages /Count {10 ** (6 - n)} /Kids [{f'{n + 3} 0 R ' * 10}] >>" for n in range(6)]
    return raw_pdf("<< /Type /Catalog /Pages 2 0 R >>", *kids, "<< /Type /Page /MediaBox [0 0 9 9] >>")


def word(body: str = "", *, before: str = "", content_type: str = MAIN, rels: str = "", **more: bytes) -> bytes:
    """A Word file with this XML in its body. `before` stands before the document's element."""
    document = f'<?xml version="1.0"?>{before}<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        kinds = '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        kinds += '<Default Extension="bin" ContentType="application/octet-stream"/>'
        kinds += f'<Override PartName="/word/document.xml" ContentType="{content_type}"/>'
        packed.writestr("[Content_Types].xml", TYPES.format(kinds))
        main = f'<Relationship Id="r1" Type="{OFFICE}/officeDocument" Target="word/document.xml"/>'
        packed.writestr("_rels/.rels", RELS.format(main))
        packed.writestr("word/document.xml", document)
        if rels:
            packed.writestr("word/_rels/document.xml.rels", RELS.format(rels))
        for name, content in more.items():
            packed.writestr(f"word/{name}.bin", content)
    return out.getvalue()


def said(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def real_word() -> bytes:
    """As a program writes it: a heading, a tab, a table."""
    made = docx.Document()
    made.add_heading("Report")
    made.add_paragraph("Hello\tworld")
    table = made.add_table(2, 2)
    for cell, text in ((table.cell(0, 0), "a"), (table.cell(0, 1), "b"), (table.cell(1, 0), "c")):
        cell.text = text
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def archive(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return out.getvalue()
