"""Pages that `draw` writes, as a person uses them: in a browser, with mouse and keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import symgraph as sg
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.registry import OPS
from tests.debug.browser import browser, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")

HERE = Path(__file__).name


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def show(driver: Any, tmp_path: Path) -> Iterator[Any]:
    """Draw something and open the page; afterwards the console must be empty."""

    def opened(what: Any, **options: Any) -> Any:
        path = sg.draw(what, tmp_path / "page.html", **options)
        driver.get(path.as_uri())
        return driver

    yield opened
    assert driver.get_log("browser") == []


def step() -> sg.Function:
    net = sg.nn.Sequential(sg.nn.Dense(6, 5), sg.nn.Activation("tanh"), sg.nn.Dense(5, 3))
    x = sg.tensor("x", (sg.dim("B"), 6))
    label = sg.tensor("label", (sg.dim("B"),), "int32")
    hidden = net(x) * 1.0
    loss = sg.nn.cross_entropy(hidden, label).mean()
    update = sg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9).updates(loss)
    return sg.function([x, label], loss, updates=update, name="step")


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def texts(driver: Any, selector: str) -> list[str]:
    """Read elements, in sight or not."""
    found: list[str] = driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector
    )
    return [" ".join(text.split()) for text in found]


def box(driver: Any, title: str) -> Any:
    """Give the first box with this title."""
    titles = texts(driver, ".box .title")
    assert title in titles
    return driver.find_elements("css selector", ".box")[titles.index(title)]


def shown(driver: Any) -> set[str]:
    return set(driver.execute_script("return [...view.scene.seen.values()]"))


def number_of_boxes(driver: Any) -> int:
    return len(driver.find_elements("css selector", ".box"))


def overlaps(driver: Any) -> list[str]:
    """List boxes that touch each other, and boxes that are not inside of their groups."""
    found: list[str] = driver.execute_script("""
        const wrong = [];
        const {boxes, groups} = view.scene;
        const apart = (a, b) =>
            a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
        const inside = (a, b) =>
            a.x >= b.x && a.y >= b.y && a.x + a.w <= b.x + b.w && a.y + a.h <= b.y + b.h;
        const every = [...boxes, ...groups];
        every.forEach((a, i) => every.slice(i + 1).forEach((b) => {
            if (!apart(a, b) && !inside(a, b) && !inside(b, a)) wrong.push(`${a.key} ${b.key}`);
        }));
        return wrong;""")
    return found


def test_a_page_needs_nothing_but_itself(show: Any) -> None:
    driver = show(step())
    assert driver.title == "step - symgraph"
    assert find(driver, "#title").text == "step"
    loaded = driver.execute_script("return performance.getEntriesByType('resource').length")
    assert loaded == 0
    assert overlaps(driver) == []
    assert {"x", "label", "weight", "matmul", "cross_entropy"} <= set(texts(driver, ".box .title"))


def test_a_click_on_a_box_tells_about_the_value(show: Any) -> None:
    driver = show(step(), sizes={"B": 64})
    box(driver, "matmul").click()
    panel = find(driver, "#panel")
    assert find(driver, "#panel-type").text == "float32[B, 5]"
    assert f"{HERE}:" in panel.text
    assert "hidden = net(x) * 1.0" in panel.text
    assert find(driver, "#panel-module").text == "Sequential/0"
    rows = {row.split()[0]: row for row in find(driver, "#panel-cost").text.splitlines()}
    assert rows["FLOPs"] == "FLOPs 60*B 3.84 k"
    assert find(driver, ".box.selected .title").text == "matmul"
    lit = driver.find_elements("css selector", "#edges path.lit")
    assert len(lit) >= 3  # x, weight, and the sum with the bias

    operand = next(e for e in driver.find_elements("css selector", ".link") if e.text == "weight")
    operand.click()
    assert find(driver, "#panel-name").text == "weight"
    assert find(driver, ".box.selected .title").text == "weight"
    driver.execute_script("document.activeElement.blur()")
    find(driver, "body").send_keys("\ue00c")  # Escape
    assert "Click a box" in find(driver, "#panel").text


def test_boxes_can_be_reached_without_a_mouse(show: Any) -> None:
    driver = show(step())
    each = box(driver, "tanh")
    assert each.get_attribute("aria-label") == "tanh: float32[B, 5]"
    driver.execute_script("arguments[0].focus()", each)
    each.send_keys("\ue007")
    assert find(driver, "#panel-name").text.endswith("= tanh")


def test_the_slider_goes_through_the_history(show: Any) -> None:
    function = step()
    driver = show(function)
    reasons = ["as built", *(each.reason for each in function.history)]
    slider = find(driver, "#step")
    assert slider.get_attribute("max") == str(len(reasons) - 1)
    assert find(driver, "#reason").text.startswith(reasons[-1])
    assert not find(driver, "#next").is_enabled()
    seen = {}
    for number in range(len(reasons) - 1, -1, -1):
        assert find(driver, "#reason").text.startswith(reasons[number])
        seen[number] = (find(driver, "#count").text, frozenset(shown(driver)))
        if number:
            find(driver, "#previous").click()
    assert not find(driver, "#previous").is_enabled()
    assert f"{len(seen[0][1])} values" == seen[0][0]
    assert seen[0] != seen[len(reasons) - 1]
    slider.send_keys("\ue010")  # End
    assert find(driver, "#reason").text.startswith(reasons[-1])


def test_each_step_lists_its_changes_and_marks_them(show: Any) -> None:
    function = step()
    driver = show(function)
    wanted = next(
        i for i, each in enumerate(function.history, 1)
        if any(change.new.inputs and change.new in each.after for change in each.changes)
    )  # fmt: skip
    while find(driver, "#step").get_attribute("value") != str(wanted):
        find(driver, "#previous").click()
    rules = texts(driver, "#changes li b")
    assert rules == [change.reason for change in function.history[wanted - 1].changes]
    marked = driver.find_elements("css selector", ".box.changed")
    assert marked
    find(driver, "#changes li .link:last-child").click()
    assert driver.find_elements("css selector", ".box.selected")


def test_modules_fold_and_open(show: Any) -> None:
    driver = show(step())
    before = number_of_boxes(driver)
    find(driver, '[aria-label="Fold Sequential/0"]').click()
    folded = box(driver, "+ Sequential/0")
    assert number_of_boxes(driver) < before
    assert "4 values" in folded.text or "5 values" in folded.text
    assert overlaps(driver) == []
    folded.click()
    assert number_of_boxes(driver) == before
    find(driver, "#collapse").click()
    assert overlaps(driver) == []
    assert "+ Sequential" in texts(driver, ".box .title")
    assert "tanh" not in texts(driver, ".box .title")
    find(driver, "#expand").click()
    assert number_of_boxes(driver) == before


def test_search_finds_opens_and_selects(show: Any) -> None:
    driver = show(step())
    find(driver, "#collapse").click()
    find(driver, "body").send_keys("/")
    field = driver.switch_to.active_element
    field.send_keys("tanh sequential/1")
    assert [row for row in texts(driver, "#found li") if "tanh" in row]
    field.send_keys("\ue007")
    assert find(driver, "#panel-name").text.endswith("= tanh")
    assert find(driver, ".box.selected .title").text == "tanh"
    field.clear()
    field.send_keys("no such thing")
    assert texts(driver, "#found li") == ["Nothing found."]


def test_the_memory_chart_answers_the_mouse(show: Any) -> None:
    from selenium.webdriver import ActionChains

    function = step()
    driver = show(function, sizes={"B": 1000})
    peak = sg.cost(function).evaluate(B=1000).peak
    assert driver.execute_script("return Math.max(...graphNow().memory.map((m) => m[1]))") == peak
    assert "B = 1000" in find(driver, "#memory-title").text
    chart = find(driver, "#memory")
    ActionChains(driver).move_to_element(chart).perform()
    tip = find(driver, "#tip")
    assert tip.is_displayed()
    assert tip.text.startswith("step ")
    chart.click()
    assert find(driver, "#panel-type").text


HOSTILE = [
    "</script><script>window.hacked=1</script>", "<img src=x onerror='window.hacked=2'>",
    "\"'`${window.hacked=3}", "{{data}} {{script}}", "a\\u003cb & c \u2028 \u202e", "\ud800 %5 #_^",
    "__proto__", "constructor",
]  # fmt: skip


def test_hostile_names_are_only_text(show: Any) -> None:
    inputs = [sg.vector(name) for name in HOSTILE]
    driver = show(sg.function(inputs, sum(inputs[1:], inputs[0]), name=HOSTILE[0]))
    assert driver.execute_script("return window.hacked") is None
    assert find(driver, "#title").text == HOSTILE[0]
    assert driver.execute_script("return data.nodes.slice(0, 2).map((n) => n.label)") == HOSTILE[:2]
    assert len(driver.find_elements("css selector", "img")) == 0
    for number in range(len(HOSTILE)):
        script = "select(arguments[0]); return byId('panel-name').textContent.length"
        assert driver.execute_script(script, number) > 0
    find(driver, "#search").send_keys("<img")
    assert len(driver.find_elements("css selector", "#found li[data-id]")) >= 1
    assert driver.execute_script("return window.hacked") is None


def test_five_thousand_values_start_folded(show: Any) -> None:
    x = sg.vector("x")
    value = x
    for number in range(1250):
        value = sg.sin(value) * float(number + 2) + sg.cos(x)
    driver = show([value])
    assert len(shown(driver)) < 120
    assert number_of_boxes(driver) < 120
    assert overlaps(driver) == []
    find(driver, "#search").send_keys("sin")
    find(driver, "#search").send_keys("\ue007")
    assert driver.find_elements("css selector", ".box.selected")
    assert overlaps(driver) == []


def test_formulas_of_every_elementwise_operation_are_drawn(show: Any) -> None:
    values = []
    for kind in OPS.values():
        if issubclass(kind, Elementwise) and kind.samples:
            sample = kind.samples[0]
            shapes = [[sample.sizes.get(s, 2) if isinstance(s, str) else s for s in arg.shape]
                      for arg in sample.args]  # fmt: skip
            operands = [
                sg.tensor(f"x{i}", shape, arg.dtype)
                for i, (shape, arg) in enumerate(zip(shapes, sample.args, strict=True))
            ]
            values.append(sample.call(*operands))
    assert len(values) > 50
    driver = show(values)
    drawn = driver.execute_script("""
        return data.nodes.filter((node) => node.inputs.length).map((node) => {
            const math = formulaElement(node.formula, nameOf);
            document.body.append(math);
            const box = math.getBoundingClientRect();
            math.remove();
            return [node.formula, math.textContent, box.height];
        });""")
    for formula, text, height in drawn:
        assert height > 5, formula
        assert not set("\\{}") & set(text.replace("{", "", 1) if "cases" in formula else text), (
            f"{json.dumps(formula)} is shown as {text!r}"
        )


def test_a_network_with_hundreds_of_values(show: Any) -> None:
    from models.alexnet import SIDE, AlexNet, optimizer
    from models.common.classifier import train_step

    net = AlexNet(2)
    driver = show(train_step(net, optimizer(net, 0.01), SIDE), sizes={"B": 128})
    assert "+ features.0" in texts(driver, ".box .title")
    assert 20 < number_of_boxes(driver) < 90
    assert overlaps(driver) == []
    find(driver, "#expand").click()
    assert number_of_boxes(driver) > 150
    assert overlaps(driver) == []
