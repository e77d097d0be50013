// Panel: what is known about the selected value, or about the step and the graph as a whole.

function element(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (key === "text") made.textContent = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter(Boolean));
  return made;
}

function select(id) {
  view.selected = id;
  showPanel();
  showSelection();
  drawMemoryMark();
}

// Selects a value and brings it to the middle, wherever it is folded away.
function go(id) {
  if (!treeIds(data.frames[view.frame].graph).includes(id)) return select(id);
  reveal(id);
  select(id);
  centre(view.scene.seen.get(id));
}

function showPanel() {
  const panel = byId("panel");
  panel.replaceChildren(...(view.selected === null ? overview() : details(view.selected)));
  panel.scrollTop = 0;
}

function section(title, ...children) {
  const kept = children.filter(Boolean);
  return kept.length ? [element("h3", {text: title}), ...kept] : [];
}

function link(id) {
  const node = data.nodes[id];
  const name = nameOf(id);
  const text = name === node.label ? name : `${name}  ${node.op}`;
  return element("button", {class: "link", "data-id": id, text, onclick: () => go(id)});
}

function details(id) {
  const node = data.nodes[id];
  const graph = graphNow();
  const here = new Set(treeIds(data.frames[view.frame].graph));
  const users = [...here].filter((each) => data.nodes[each].inputs.includes(id));
  const name = nameOf(id);
  return [
    element("h2", {id: "panel-name", text: node.inputs.length ? `${name} = ${node.op}` : name}),
    element("p", {class: "type code", id: "panel-type", text: node.type}),
    !here.has(id) && element("p", {class: "quiet", text: "This value is not in the graph of this step."}),
    node.attributes && element("p", {class: "code quiet", text: node.attributes}),
    ...section("Made at", ...node.lines.flatMap(([place, text]) => [
      element("p", {class: "code place", text: place}), text && element("pre", {class: "code", text})])),
    ...section("Module", node.module && element("button",
      {class: "link", id: "panel-module", text: node.module, onclick: () => goModule(node.module)})),
    ...section("Formula", ...formulaOf(id)),
    ...section("Operands", ...node.inputs.map((each) =>
      typeof each === "number" ? link(each) : element("code", {class: "link", text: each}))),
    ...section("Used by", ...users.map(link), ...endsOf(id, graph)),
    ...section(`Cost at ${sizesText()}`, costTable(node)),
  ].filter(Boolean);
}

function endsOf(id, graph) {
  const found = (results(graph).get(id) || []).map((text) => element("p", {class: "quiet", text}));
  return found;
}

function formulaOf(id) {
  const text = data.nodes[id].formula;
  if (!data.nodes[id].inputs.length || !text) return [];
  const math = formulaElement(text, nameOf);
  math.addEventListener("click", (event) => {
    const found = event.target.closest(".ref");
    if (found) go(Number(found.dataset.id));
  });
  const plain = text.replace(/\\node\{(\d+)\}/g, (_, each) => `\\mathrm{${nameOf(each).replace(/[%#_]/g, "\\$&")}}`);
  return [math, element("details", {}, element("summary", {text: "LaTeX"}), element("pre", {class: "code", text: plain}))];
}

function costTable(node) {
  const rows = [["FLOPs", node.flops, ""], ["bytes read", node.read, "B"], ["bytes written", node.written, "B"]];
  const cells = rows.map(([title, amount, unit]) => element("tr", {},
    element("td", {text: title}), element("td", {text: amount ? amount[0] : "unknown"}),
    element("td", {text: amount ? number(amount[1], unit) : ""})));
  if (node.view) cells.push(element("tr", {}, element("td", {colspan: 3, class: "quiet",
    text: "a view: no memory of its own"})));
  return element("table", {id: "panel-cost"}, ...cells);
}

function number(value, unit) {
  const prefixes = ["", "k", "M", "G", "T", "P"];
  let level = 0;
  while (Math.abs(value) >= 999.5 && level < prefixes.length - 1) {
    value /= 1000;
    level++;
  }
  return `${level ? Number(value.toPrecision(3)) : value} ${prefixes[level]}${unit}`.trim();
}

function sizesText() {
  const pairs = Object.entries(data.sizes).map(([name, value]) => `${name} = ${value}`);
  return pairs.length > 4 ? `${pairs.slice(0, 4).join(", ")}, \u2026` : pairs.join(", ") || "fixed sizes";
}

function goModule(module) {
  const found = groupsIn(graphNow().tree).find((part) => part.key === module);
  if (!found) return;
  reveal(idsOf(found)[0]);
  centre(`g:${module}`);
}

// -- the step and the graph as a whole -----------------------------------------------------------

function overview() {
  const frame = data.frames[view.frame];
  const graph = graphNow();
  const ids = treeIds(frame.graph);
  const flops = ids.reduce((sum, id) => sum + (data.nodes[id].flops ? data.nodes[id].flops[1] : 0), 0);
  const peak = Math.max(graph.held, ...graph.memory.map((each) => each[1]));
  const rows = [["values", ids.length], ["FLOPs", number(flops, "")],
    ["memory at its peak", number(peak, "B")], ["held all the time", number(graph.held, "B")]];
  return [
    element("h2", {text: data.title}),
    element("p", {class: "quiet", text: `Numbers hold for ${sizesText()}. Click a box to read about it.`}),
    element("table", {id: "panel-totals"}, ...rows.map((cells) =>
      element("tr", {}, ...cells.map((text) => element("td", {text}))))),
    ...section("Inputs", ...graph.inputs.map(link)),
    ...section("Results", ...[...results(graph)].flatMap(([id, texts]) => texts.map((text) =>
      element("button", {class: "link", "data-id": id, text, onclick: () => go(id)})))),
    ...changesOf(frame),
    ...section("Colours", legend(ids)),
  ];
}

function changesOf(frame) {
  if (view.frame === 0) return [];
  const side = ([text, id]) => id === null || id === undefined ? element("code", {text}) :
    element("button", {class: "link code", "data-id": id, text, onclick: () => goChange(id)});
  const rows = frame.changes.map(([reason, old, made]) =>
    element("li", {}, element("b", {text: reason}), side(old), " \u2192 ", side(made)));
  if (frame.more) rows.push(element("li", {class: "quiet", text: `and ${frame.more} more`}));
  const list = rows.length ? element("ol", {class: "changes", id: "changes"}, ...rows)
    : element("p", {class: "quiet", text: "Nothing was changed."});
  return section(`Changes by ${frame.reason}`, list);
}

// A value that is gone stands in the graph before.
function goChange(id) {
  if (!treeIds(data.frames[view.frame].graph).includes(id) && view.frame) showFrame(view.frame - 1);
  go(id);
}

function legend(ids) {
  const names = {input: "input", shared: "shared variable", product: "product, convolution",
    elementwise: "elementwise", reduction: "reduction", shape: "shape, index", random: "random",
    other: "other", literal: "literal"};
  const there = new Set(ids.map((id) => data.nodes[id].family));
  const rows = Object.entries(names).filter(([family]) => there.has(family)).map(([family, text]) =>
    element("span", {}, element("i", {style: `background: var(--${family})`}), text));
  if (data.frames.length > 1) {
    rows.push(element("span", {}, element("i", {class: "changed"}), "new in this step"));
    rows.push(element("span", {}, element("i", {class: "leaving"}), "replaced in the next"));
  }
  return element("div", {class: "legend", id: "legend"}, ...rows);
}
