// View: draws the scene of one graph of the history, and moves about in it.

const SVG = "http://www.w3.org/2000/svg";
const FEW = 70; // boxes that are shown without being asked for
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

const view = {
  frame: data.frames.length - 1,
  open: new Set(), // keys of open groups; kept from step to step
  selected: null, // the number of a value
  scene: null,
  matches: new Set(),
  x: 0, y: 0, scale: 1,
};
const graphNow = () => data.graphs[data.frames[view.frame].graph];
const nameOf = (id) => graphNow().names[id] || data.nodes[id].label;

function svg(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// -- what a box says ---------------------------------------------------------------------------

function results(graph) {
  const found = new Map();
  const add = (id, text) => found.set(id, [...(found.get(id) || []), text]);
  const several = graph.outputs.length > 1;
  graph.outputs.forEach((id, index) => add(id, several ? `output ${index + 1}` : "output"));
  for (const [id, target] of graph.updates) add(id, `new ${graph.names[target] || data.nodes[target].label}`);
  return found;
}

function describer(graph) {
  const ends = results(graph);
  return {
    value(id) {
      const node = data.nodes[id];
      const leaf = !node.inputs.length && (node.family === "input" || node.family === "shared");
      const literals = node.inputs.filter((each) => typeof each === "string");
      const title = leaf ? nameOf(id) : node.op + (literals.length ? `  ${literals.join(", ")}` : "");
      const result = ends.has(id) ? "\u2192 " + shortened(ends.get(id).join(", "), 30) : "";
      return {title: shortened(title, 30), under: shortened(node.type, 34), result};
    },
    group(label, ids) {
      const counts = new Map();
      for (const id of ids) {
        const {op, family} = data.nodes[id];
        if (["product", "reduction", "random", "other"].includes(family) || ids.length < 4)
          counts.set(op, (counts.get(op) || 0) + 1);
      }
      const ops = [...counts.keys()].slice(0, 3).join(", ");
      const under = `${ids.length} value${ids.length > 1 ? "s" : ""}${ops ? " \u00b7 " + ops : ""}`;
      return {title: shortened(label, 40), under: shortened(under, 46)};
    },
  };
}

// -- drawing -----------------------------------------------------------------------------------

function draw() {
  const graph = graphNow();
  view.scene = buildScene(graph, view.open, describer(graph));
  for (const id of ["groups", "edges", "boxes"]) byId(id).replaceChildren();
  const marks = marksOf(view.frame);
  for (const each of view.scene.groups) drawGroup(each);
  for (const line of view.scene.lines) {
    const path = svg("path", {d: curve(line.corners)}, byId("edges"));
    if (line.arrow) path.setAttribute("marker-end", "url(#arrow)");
    path.dataset.from = line.from;
    if (line.to) path.dataset.to = line.to;
  }
  for (const each of view.scene.boxes) drawBox(each, marks);
  showSelection();
}

// What this step made (fresh), named as a change (changed), and what the next one replaces.
function marksOf(number) {
  const frame = data.frames[number];
  const next = data.frames[number + 1];
  const before = number ? new Set(treeIds(data.frames[number - 1].graph)) : null;
  return {
    changed: new Set(frame.changes.map((change) => change[2][1])),
    fresh: (id) => before !== null && !before.has(id),
    leaving: new Set(next ? next.changes.map((change) => change[1][1]) : []),
  };
}

function treeIds(number) {
  return idsOf({parts: data.graphs[number].tree});
}

function drawGroup(each) {
  const made = svg("g", {class: "group", transform: `translate(${each.x},${each.y})`}, byId("groups"));
  made.dataset.key = each.part.key;
  svg("rect", {width: each.w, height: each.h, rx: 9}, made);
  svg("text", {x: 13, y: 19}, made, "\u2212  " + each.label);
  const handle = svg("rect", {class: "handle", width: each.w, height: GAP.head, role: "button",
    tabindex: 0, "aria-expanded": "true", "aria-label": `Fold ${each.part.label}`}, made);
  pressed(handle, () => toggle(each.part.key));
}

function drawBox(each, marks) {
  const made = svg("g", {class: `box ${each.kind}`, transform: `translate(${each.x},${each.y})`,
    tabindex: 0, role: "button"}, byId("boxes"));
  const {title, under, result} = each.text;
  made.dataset.key = each.key;
  made.setAttribute("aria-label", `${title}: ${under}`);
  if (each.kind === "folded") {
    svg("rect", {class: "back", x: 5, y: 5, width: each.w - 5, height: each.h - 5, rx: 7}, made);
    svg("rect", {class: "face", width: each.w - 5, height: each.h - 5, rx: 7}, made);
    svg("text", {class: "title", x: 12, y: 17}, made, "+  " + title);
    svg("text", {class: "under", x: 12, y: 32}, made, under);
    made.dataset.group = each.part.key;
    made.setAttribute("aria-expanded", "false");
    const changed = each.ids.filter((id) => marks.changed.has(id) || marks.leaving.has(id));
    if (changed.length) badge(made, each.w - 8, changed.length);
    if (each.ids.some((id) => marks.changed.has(id))) made.classList.add("changed");
    else if (each.ids.some((id) => marks.leaving.has(id))) made.classList.add("leaving");
    pressed(made, () => toggle(each.part.key));
    return;
  }
  made.dataset.id = each.id;
  const node = data.nodes[each.id];
  svg("rect", {class: "face", width: each.w, height: each.h, rx: 6,
    style: `fill: var(--${node.family})`}, made);
  svg("text", {class: "title", x: 14, y: 18}, made, title);
  svg("text", {class: "under", x: 14, y: 33}, made, under);
  if (result) svg("text", {class: "result", x: 14, y: 48}, made, result);
  if (marks.changed.has(each.id)) made.classList.add("changed");
  else if (marks.leaving.has(each.id)) made.classList.add("leaving");
  else if (marks.fresh(each.id)) made.classList.add("fresh");
  if (view.matches.has(each.id)) made.classList.add("match");
  pressed(made, () => select(each.id));
}

function badge(parent, x, count) {
  const wide = textWidth(String(count), true) + 10;
  svg("rect", {class: "badge", x: x - wide + 6, y: -8, width: wide, height: 16, rx: 8}, parent);
  svg("text", {class: "badge-text", x: x - wide + 11, y: 4}, parent, String(count));
}

// A click that was no drag, or Enter or the space bar.
function pressed(element, action) {
  element.addEventListener("click", () => pan.moved || action());
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    action();
  });
}

function showSelection() {
  const key = view.selected === null ? null : view.scene.seen.get(view.selected);
  for (const box of byId("boxes").children) box.classList.toggle("selected", box.dataset.key === key);
  for (const path of byId("edges").children)
    path.classList.toggle("lit", key != null && (path.dataset.from === key || path.dataset.to === key));
}

// -- groups ------------------------------------------------------------------------------------

function groupsIn(parts) {
  return parts.flatMap((part) => (typeof part === "number" ? [] : [part, ...groupsIn(part.parts)]));
}

// Opens groups, outer ones first, while the boxes stay few.
function openSome(graph) {
  let level = graph.tree;
  let count = level.length;
  const all = idsOf({parts: level}).length <= FEW;
  while (level.length) {
    const groups = level.filter((part) => typeof part !== "number");
    count += groups.reduce((sum, part) => sum + part.parts.length - 1, 0);
    if (count > FEW && !all) return;
    for (const part of groups) view.open.add(part.key);
    level = groups.flatMap((part) => part.parts);
  }
}

function toggle(key) {
  const before = anchor(key);
  if (!view.open.delete(key)) view.open.add(key);
  draw();
  const after = anchor(key);
  if (before && after) { // what was pressed stays under the hand
    view.x += (before.x - after.x) * view.scale;
    view.y += (before.y - after.y) * view.scale;
  }
  moved();
}

function anchor(key) {
  const {boxes, groups} = view.scene;
  return [...boxes, ...groups].find((each) => each.part && each.part.key === key);
}

// Opens every group around a value. Gives whether anything had to be opened.
function reveal(id) {
  const inside = groupsIn(graphNow().tree).filter((part) => idsOf(part).includes(id));
  const closed = inside.filter((part) => !view.open.has(part.key));
  for (const part of closed) view.open.add(part.key);
  if (closed.length) draw();
}

// -- moving about ------------------------------------------------------------------------------

const pan = {from: null, moved: false};

function moved() {
  byId("scene").setAttribute("transform", `translate(${view.x},${view.y}) scale(${view.scale})`);
}

function fit() {
  const {width, height} = byId("canvas").getBoundingClientRect();
  const {w, h} = view.scene;
  view.scale = Math.min(1.15, Math.max(0.04, Math.min(width / (w + 50), height / (h + 50))));
  // a tall graph begins at its inputs, in a size that can be read
  if (view.scale < 0.6) view.scale = Math.max(view.scale, Math.min(0.9, width / (w + 50)));
  view.x = (width - w * view.scale) / 2;
  view.y = Math.max(25, (height - h * view.scale) / 2);
  if (h * view.scale > height) view.y = 25;
  moved();
}

function centre(key) {
  const found = [...view.scene.boxes, ...view.scene.groups].find((each) => each.key === key);
  if (!found) return;
  const {width, height} = byId("canvas").getBoundingClientRect();
  view.scale = Math.max(view.scale, 0.7);
  view.x = width / 2 - (found.x + found.w / 2) * view.scale;
  view.y = height / 2 - (found.y + Math.min(found.h, height) / 2) * view.scale;
  moved();
}

function zoom(factor, x, y) {
  const scale = Math.min(3, Math.max(0.03, view.scale * factor));
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  moved();
}

function listenToCanvas() {
  const canvas = byId("canvas");
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pan.from = {x: event.clientX - view.x, y: event.clientY - view.y, at: [event.clientX, event.clientY]};
    pan.moved = false;
  });
  window.addEventListener("pointermove", (event) => {
    if (!pan.from) return;
    const [x, y] = pan.from.at;
    if (Math.hypot(event.clientX - x, event.clientY - y) > 4) pan.moved = true;
    if (!pan.moved) return;
    canvas.classList.add("dragging");
    view.x = event.clientX - pan.from.x;
    view.y = event.clientY - pan.from.y;
    moved();
  });
  window.addEventListener("pointerup", () => {
    pan.from = null;
    canvas.classList.remove("dragging");
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const {left, top} = canvas.getBoundingClientRect();
    const step = event.deltaY * (event.deltaMode === 1 ? 20 : 1);
    zoom(Math.exp(-step * 0.0016), event.clientX - left, event.clientY - top);
  }, {passive: false});
}
