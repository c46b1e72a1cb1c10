"""Hooks of MkDocs: notebooks and benchmarks become pages, formulas become MathML, which a browser draws by itself."""

import base64
import html
import json
import logging
import pathlib
import re

from benchmark_tables import shown
from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
LOG = logging.getLogger("mkdocs.hooks.pages")
PICTURE = re.compile(r"^!\[.*\]\(results/(\w+)\.png\)$", re.MULTILINE)
FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>',
    re.DOTALL,
)


def on_files(files, config):
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for name, content in _of_notebook(path).items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    for path in (ROOT / "benchmarks" / "README.md", *sorted(RESULTS.iterdir())):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, **_):
    def with_numbers(picture):
        path = RESULTS / f"{picture[1]}.json"
        return f"{picture[0]}\n\n{shown(path)}" if path.exists() else picture[0]

    return PICTURE.sub(with_numbers, markdown) if page.file.src_uri == "benchmarks/README.md" else markdown


def on_page_content(content, page, **_):
    def drawn(match):
        formula = html.unescape(match[2])
        mathml = convert(formula, display="inline" if match[1] == "span" else "block")
        mathml = mathml.replace(r"\_", "_")  # it leaves what is in \text
        if "\\" in mathml:  # a command that it does not know is left as it is
            LOG.warning("%s: no MathML for %s", page.file.src_uri, formula)
        return mathml

    return FORMULA.sub(drawn, content)


def _of_notebook(path: pathlib.Path) -> dict[str, str | bytes]:
    """A page, and its pictures, from the outputs that the notebook keeps: nothing is run."""
    parts, pictures = [], {}
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(line for line in cell["source"] if not line.startswith("%"))
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures)}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![What the cell above draws]({name})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                parts.append(f"```text\n{text}\n```")
    return {f"{path.stem}.md": "\n\n".join(parts), **pictures}
