"""Graphs as Graphviz text and as GraphML, and the errors of everything that writes a file."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

import symgraph as sg
from symgraph.debug.page import harmless_json, page_of
from symgraph.errors import ArgumentError, ArgumentTypeError

HOSTILE = [
    'quote " and \\ and \\N', "]; evil [label=x", "<b>&amp;</b>", "line\nbreak\rreturn", "\x00\x07",
    "\ud800", "</script>", "\u2028\u202e",
]  # fmt: skip


def net() -> sg.Function:
    layers = sg.nn.Sequential(sg.nn.Dense(4, 3), sg.nn.Activation("tanh"))
    x = sg.tensor("x", (sg.dim("B"), 4))
    loss = layers(x).sum()
    return sg.function([x], loss, updates=sg.optim.SGD(layers.parameters(), lr=0.1).updates(loss))


def read(text: str) -> nx.MultiDiGraph:
    return nx.read_graphml(io.BytesIO(text.encode()), force_multigraph=True)


def test_graphml_is_read_back_by_networkx(tmp_path: Path) -> None:
    f = net()
    text = sg.to_graphml(f, tmp_path / "net.graphml")
    back = nx.read_graphml(tmp_path / "net.graphml", force_multigraph=True)
    assert nx.utils.graphs_equal(back, read(text))
    assert len(back) == len(f.graph.values)
    assert back.number_of_edges() == f.graph.number_of_edges()
    assert nx.is_directed_acyclic_graph(back)
    # NetworkX before 3.3 drops empty texts
    by_role = {about.get("role", ""): about for _, about in back.nodes(data=True)}
    assert by_role["input"]["label"] == "x"
    assert by_role["output"]["op"] == "sum"
    assert by_role["update of weight"]["type"] == "float32[4, 3]"
    ops = {about["op"]: about for _, about in back.nodes(data=True)}
    assert ops["tanh"]["module"] == "Sequential/1"
    assert re.fullmatch(r"test_export.py:\d+", ops["tanh"]["line"])
    matmul = next(n for n, about in back.nodes(data=True) if about["op"] == "matmul")
    operands = {
        data["slot"]: back.nodes[u]["label"] for u, _, data in back.in_edges(matmul, data=True)
    }
    assert operands == {0: "x", 1: "weight"}


def test_one_operand_twice_is_two_edges() -> None:
    x = sg.vector("x")
    assert [e[2] for e in read(sg.to_graphml(x * x)).edges(keys=True)] == [0, 1]
    assert sg.to_dot(x * x).count("v0 -> v1;") == 2


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_survive(name: str) -> None:
    value = sg.exp(sg.scalar(name))
    back = read(sg.to_graphml(value))
    expected = re.sub("[\x00\x07\ud800]", "?", name).replace("\r", "\n")
    assert back.nodes["v0"]["label"] == expected
    dot = sg.to_dot(value)
    unquoted = re.sub(r'"(\\.|[^"\\])*"', "", dot)
    assert "evil" not in unquoted
    assert '"' not in unquoted
    assert dot.count("\n") == 8


def test_dot_has_a_cluster_for_each_module() -> None:
    text = sg.to_dot(net())
    assert 'label="Sequential/0"' in text
    assert text.count("subgraph cluster_") == text.count("{") - 1
    assert text.count("{") == text.count("}")
    assert "[style=dashed, constraint=false]" in text
    assert 'label="multiply 0.5\\nfloat32"' in sg.to_dot(sg.scalar("x") * 0.5)


@pytest.mark.skipif(not shutil.which("dot"), reason="needs Graphviz: apt-get install graphviz")
def test_graphviz_takes_it(tmp_path: Path) -> None:
    for value in [net(), *(sg.exp(sg.scalar(name)) for name in HOSTILE)]:
        path = tmp_path / "graph.dot"
        sg.to_dot(value, path)
        subprocess.run(["dot", "-Tsvg", path], check=True, capture_output=True, timeout=60)


WRITERS = [sg.draw, sg.to_dot, sg.to_graphml]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
class TestWriters:
    def test_take_whatever_show_takes(self, write: Callable[..., Any], tmp_path: Path) -> None:
        f = net()
        things = [f, f.graph, f.graph.outputs[0], list(f.graph.outputs), sg.nn.Dense(3, 2)]
        for number, what in enumerate(things):
            path = tmp_path / f"{number}.out"
            write(what, str(path))
            assert path.stat().st_size > 100
        assert sorted(os.listdir(tmp_path)) == [f"{n}.out" for n in range(len(things))]

    def test_refuse_what_is_no_graph(self, write: Callable[..., Any], tmp_path: Path) -> None:
        with pytest.raises(ArgumentTypeError, match=f"{write.__name__}: cannot show int"):
            write(3, tmp_path / "x")
        with pytest.raises(ArgumentTypeError, match="a module"):
            write([], tmp_path / "x")

    def test_say_why_a_path_cannot_be_written(
        self, write: Callable[..., Any], tmp_path: Path
    ) -> None:
        x = sg.exp(sg.scalar("x"))
        with pytest.raises(ArgumentError, match=f"{write.__name__}: the folder .* does not exist"):
            write(x, tmp_path / "no" / "page.html")
        with pytest.raises(ArgumentError, match="is a folder"):
            write(x, tmp_path)
        with pytest.raises(ArgumentTypeError, match="the path must be a string or a Path, got int"):
            write(x, 3)
        with pytest.raises(ArgumentError, match="cannot be written: ") as caught:
            write(x, "/proc/page.html")
        assert "choose a folder" in caught.value.fix

    def test_replace_a_file_whole(self, write: Callable[..., Any], tmp_path: Path) -> None:
        path = tmp_path / "page.html"
        path.write_text("what stood here")
        write(sg.exp(sg.scalar("x")), path)
        assert "what stood here" not in path.read_text()
        assert os.listdir(tmp_path) == ["page.html"]


def test_wrong_sizes_are_refused(tmp_path: Path) -> None:
    x = sg.exp(sg.tensor("x", (sg.dim("B"), 3)))
    path = tmp_path / "page.html"
    for sizes, text in [
        ({"C": 3}, "no size `C`"),
        ({"B": 0}, "must be at least 1"),
        ({"B": 1.5}, "must be an int"),
        ({3: 3}, "3 is no size"),
        ({sg.dim("Q"): 3}, "no size `Q`"),
    ]:
        with pytest.raises((ArgumentError, ArgumentTypeError), match=text):
            sg.draw(x, path, sizes=sizes)
    with pytest.raises(ArgumentTypeError, match="sizes must be a mapping, got int"):
        sg.draw(x, path, sizes=3)  # type: ignore[arg-type]
    assert not path.exists()
    assert sg.draw(x, path, sizes={sg.dim("B"): 5}) == path
    assert '"sizes":{"B":5}' in path.read_text()


def test_nothing_in_the_data_ends_its_block() -> None:
    page = page_of(sg.exp(sg.scalar("</script><!--")))
    data = page.partition('id="data">')[2].partition("</script>")[0]
    assert not set("<>&") & set(data)
    assert data.isascii()
    assert harmless_json("&<>\u2028") == '"\\u0026\\u003c\\u003e\\u2028"'


def test_a_page_loads_nothing() -> None:
    page = page_of(net())
    addresses = set(re.findall(r"https?://[^\"'\s]+", page))
    assert addresses == {"http://www.w3.org/1998/Math/MathML", "http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|img|iframe)\b|@import|url\((?!#)", page)
