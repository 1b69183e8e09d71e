"""A lesson's page as a SCORM 1.2 package, which learning platforms (Moodle, ILIAS) play and keep score of.

After the SCORM 1.2 Content Aggregation Model (the package) and Run-Time Environment (what the page says).
"""

import html
import pathlib
import re
import zipfile
from xml.etree import ElementTree as ET

PACKAGE = "http://www.imsproject.org/xsd/imscp_rootv1p1p2"
ADL = "http://www.adlnet.org/xsd/adlcp_rootv1p2"
TIME = (2020, 1, 1, 0, 0, 0)  # of every entry, so that the same page is the same file
SCRIPT = """\
// What the platform hears: how much of the page is done, and what, so that the reader can go on elsewhere.
(() => {
  const find = (from) => {
    for (let up = 0; up < 20; up++, from = from.parent) if (from.API) return from.API;
    return null;
  };
  const api = find(window) || (window.opener && find(window.opener));
  if (!api || String(api.LMSInitialize("")) !== "true") return;
  const { progress } = window.Accum;
  const asked = [...document.querySelectorAll(".quiz")].map((quiz) => quiz.dataset.name);
  const tasks = [...document.querySelectorAll(".exercise:has(textarea)")].map((task) => task.dataset.check);
  const all = asked.length + tasks.length;
  try { progress.add(api.LMSGetValue("cmi.suspend_data")); } catch { /* nothing yet */ }
  function report() {
    const { predictions, exercises } = progress.all();
    const guessed = asked.filter((name) => name in predictions);
    const solved = tasks.filter((name) => exercises.includes(name));
    const own = Object.fromEntries(guessed.map((name) => [name, predictions[name]]));
    const done = guessed.length + solved.length;
    const said = {
      "core.lesson_status": done === all ? "completed" : "incomplete",
      "core.score.min": 0, "core.score.max": 100, "core.score.raw": all ? Math.round(100 * done / all) : 100,
      "suspend_data": JSON.stringify({ predictions: own, exercises: solved }),
    };
    for (const [name, value] of Object.entries(said)) api.LMSSetValue(`cmi.${name}`, String(value));
    api.LMSCommit("");
  }
  document.addEventListener("accum-progress", report);
  report();
  addEventListener("pagehide", () => api.LMSFinish(""), { once: true });
})();
"""


def write(page: pathlib.Path, out: pathlib.Path) -> None:
    """Pack the page with its scripts and style, and a manifest, into a zip file.

    Args:
        page: a lesson of the built site.
        out: the zip file.

    Raises:
        ValueError: there is no such page.
    """
    if not page.is_file():
        raise ValueError(f"there is no {page}: python start.py site writes the lessons as pages")
    text = page.read_text(encoding="utf-8")
    found = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
    static = set(re.findall(r'(?:src|href)="(?:\.\./)?(static/[^"]+)"', text))
    if "static/exercise.js" in static:
        static.add("static/micropython.js")  # which that one loads
    folder = page.parent if (page.parent / "static").is_dir() else page.parent.parent
    text = re.sub(r'(src|href)="\.\./static/', r'\1="static/', text)
    text = re.sub(r' href="(?!#|static/|https?:|data:)[^"]*"', "", text)  # pages that it does not hold
    text = text.replace("</body>", '<script defer src="scorm.js"></script>\n</body>')
    files = {"index.html": text.encode(), "scorm.js": SCRIPT.encode()}
    files |= {name: (folder / name).read_bytes() for name in sorted(static)}
    manifest = _manifest(page.stem, html.unescape(found[1]) if found else page.stem, list(files))
    ET.indent(manifest)
    files["imsmanifest.xml"] = ET.tostring(manifest, encoding="utf-8", xml_declaration=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, TIME), content, zipfile.ZIP_DEFLATED)


def _manifest(name: str, title: str, files: list[str]) -> ET.Element:
    root = ET.Element(
        "manifest", {"xmlns": PACKAGE, "xmlns:adlcp": ADL, "identifier": f"accum_{name}", "version": "1.0"}
    )
    metadata = ET.SubElement(root, "metadata")
    ET.SubElement(metadata, "schema").text = "ADL SCORM"
    ET.SubElement(metadata, "schemaversion").text = "1.2"
    organizations = ET.SubElement(root, "organizations", {"default": "course"})
    organization = ET.SubElement(organizations, "organization", {"identifier": "course"})
    ET.SubElement(organization, "title").text = title
    item = ET.SubElement(organization, "item", {"identifier": "lesson", "identifierref": "page"})
    ET.SubElement(item, "title").text = title
    resources = ET.SubElement(root, "resources")
    page = {"identifier": "page", "type": "webcontent", "adlcp:scormtype": "sco", "href": "index.html"}
    resource = ET.SubElement(resources, "resource", page)
    for file in sorted(files):
        ET.SubElement(resource, "file", {"href": file})
    return root
