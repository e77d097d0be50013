"""Take the pictures of drawn graphs again, with headless Chromium.

python docs/pictures.py [OUT]       writes PNG files to OUT (default docs/pictures)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import symgraph as sg
from models import alexnet
from symgraph.function import Function
from tests.debug.browser import browser, missing

FOLDER = Path(__file__).parent / "pictures"
SIZE = (1400, 960)


def perceptron() -> Function:
    """Compile the training step of docs/hold-the-graph.md."""
    B = sg.dim("B")
    net = sg.nn.Sequential(sg.nn.Dense(64, 32), sg.nn.Activation("tanh"), sg.nn.Dense(32, 10))
    image, label = sg.tensor("image", (B, 64)), sg.tensor("label", (B,), "int32")
    loss = sg.nn.cross_entropy(net(image), label).mean()
    step = sg.optim.SGD(net.parameters(), lr=0.1)
    return sg.function([image, label], loss, updates=step.updates(loss), name="train")


def alexnet_step() -> Function:
    """Compile the training step of AlexNet."""
    return alexnet.MODEL.graph()


# file name, what is drawn, what is done before the picture is taken
PICTURES = [
    ("graph-page.png", perceptron, "go(idsOf({parts: graphNow().tree}).find(isTanh))"),
    (
        "graph-history.png",
        perceptron,
        "showFrame(firstChange()); view.selected = null; showPanel()",
    ),
    ("graph-alexnet.png", alexnet_step, "toggle('AlexNet/features.4')"),
]
HELPERS = """
const isTanh = (id) => data.nodes[id].op === "tanh";
const firstChange = () => data.frames.findIndex((frame) => frame.changes.length > 1);
"""


def take(driver: Any, function: Function, script: str, path: Path) -> None:
    """Draw a function, do something on its page, and take its picture."""
    with tempfile.TemporaryDirectory() as folder:
        page = sg.draw(function, Path(folder) / "page.html", sizes={"B": 128})
        driver.get(page.as_uri())
        driver.execute_script(HELPERS + script)
        driver.save_screenshot(str(path))


class ThreeLayers(sg.nn.Module):
    """Two matrices and a convolution, for the picture of docs/low-rank.md."""

    def __init__(self) -> None:
        self.expand, self.mix = sg.nn.Dense(192, 384), sg.nn.Dense(192, 192)
        self.conv = sg.nn.Conv2d(64, 64, 3, padding=1)


def take_staircases(driver: Any, path: Path) -> None:
    """Search for ranks on this machine, with one thread, and take the picture of it."""
    net = ThreeLayers()
    rows, images = sg.tensor("rows", (96, 192)), sg.tensor("images", (2, 64, 7, 7))
    both = net.expand(net.mix(rows)).sum() + net.conv(images).sum()
    timer = sg.compression.DeviceTimer(repeats=201, anew=True)
    with sg.config(threads=1), tempfile.TemporaryDirectory() as folder:
        search = sg.compression.rank_search(net, both, step=1, most=24, timer=timer)
        page = Path(folder) / "page.html"
        page.write_text(search.draw(Path(folder) / "page.svg").read_text())
        driver.get(page.as_uri())
        driver.find_element("tag name", "svg").screenshot(str(path))


def main() -> int:
    """Take all pictures."""
    if missing():
        print(missing(), file=sys.stderr)
        return 2
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile), SIZE) as driver:
        for name, build, script in PICTURES:
            take(driver, build(), script, out / name)
            print(out / name)
        take_staircases(driver, out / "rank-search.png")
        print(out / "rank-search.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
