"""Write LICENSES.txt: the licence of every package that is bundled into plot.js; and SHA256SUMS."""

import hashlib
import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent


def text_of(package: pathlib.Path) -> str:
    """Its licence file.

    Raises:
        FileNotFoundError: it has none; look it up and add it by hand.
    """
    found = next((f for f in sorted(package.iterdir()) if f.name.lower().startswith("licen")), None)
    if found is None:
        raise FileNotFoundError(f"{package} has no licence file: look its licence up and add it by hand")
    return found.read_text(encoding="utf-8").strip()


def main() -> None:
    packages = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    parts = ["Licences of what plot.js contains.\n"]
    for path, what in sorted(packages.items()):
        if path and not what.get("dev"):
            name = path.removeprefix("node_modules/")
            parts.append(f"--- {name} {what['version']} ({what['license']})\n\n{text_of(HERE / path)}\n")
    (HERE / "LICENSES.txt").write_text("\n".join(parts), encoding="utf-8")
    names = ("LICENSES.txt", "entry.js", "package-lock.json", "package.json", "plot.js")
    sums = [f"{hashlib.sha256((HERE / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (HERE / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


if __name__ == "__main__":
    main()
