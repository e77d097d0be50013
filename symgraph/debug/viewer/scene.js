// Scene: which boxes and groups are to be seen, where they stand, and the lines between them.

const pen = document.createElement("canvas").getContext("2d");

function textWidth(text, bold) {
  pen.font = `${bold ? "600 12.5px" : "11px"} system-ui, "Segoe UI", Roboto, sans-serif`;
  return pen.measureText(text).width;
}

function shortened(text, most) {
  return text.length <= most ? text : text.slice(0, most - 1) + "\u2026";
}

// Gives {w, h, boxes, groups, lines, seen}: boxes and groups with their places, lines with corners
// and what they join, and for each value the key of the box that shows it.
function buildScene(graph, open, describe) {
  const seen = new Map(); // value -> key of the box it is in
  const parents = new Map(); // key of a box or group -> key of the group around it
  const root = group({key: "", label: "", parts: graph.tree}, null);
  netsOf(graph, root);
  place(root);
  const scene = {w: root.inner.w, h: root.inner.h, boxes: [], groups: [], lines: [], seen};
  settle(root, 0, 0, scene);
  return scene;

  function group(part, parent) {
    const key = part.key === "" ? "" : `g:${part.key}`;
    const made = {key, part, items: [], nets: new Map(), kind: "group"};
    parents.set(key, parent);
    for (const each of part.parts) {
      if (typeof each === "number") made.items.push(box(each, key));
      else if (open.has(each.key)) made.items.push(group(each, key));
      else made.items.push(folded(each, key));
    }
    return made;
  }

  function box(id, parent) {
    const key = `n:${id}`;
    const text = describe.value(id);
    parents.set(key, parent);
    seen.set(id, key);
    const wide = [textWidth(text.title, true), ...[text.under, text.result].map((t) => textWidth(t))];
    return {key, id, kind: "value", text, w: Math.max(...wide) + 30, h: text.result ? 56 : 42};
  }

  function folded(part, parent) {
    const key = `g:${part.key}`;
    const ids = idsOf(part);
    const text = describe.group(short(part.label, parent), ids);
    parents.set(key, parent);
    for (const id of ids) seen.set(id, key);
    const wide = Math.max(textWidth(text.title, true), textWidth(text.under)) + 44;
    return {key, part, ids, kind: "folded", text, w: wide, h: 44};
  }

  function chain(key) {
    const found = [key];
    while (key !== "") found.push((key = parents.get(key)));
    return found.reverse(); // from the root down to the box
  }

  function netsOf() {
    const groups = new Map();
    (function collect(each) {
      groups.set(each.key, each);
      each.items.filter((item) => item.kind === "group").forEach(collect);
    })(root);
    const net = (at, source) => {
      const nets = groups.get(at).nets;
      if (!nets.has(source)) nets.set(source, {key: source, from: null, to: new Set(), leaves: false});
      return nets.get(source);
    };
    for (const [source, target] of joined(graph, seen)) {
      const ours = chain(source), theirs = chain(target);
      let depth = 0;
      while (ours[depth + 1] === theirs[depth + 1]) depth++;
      const across = net(ours[depth], source);
      across.from = ours[depth + 1];
      across.to.add(theirs[depth + 1]);
      for (let i = depth + 1; i < ours.length - 1; i++) {
        const out = net(ours[i], source);
        out.from = ours[i + 1];
        out.leaves = true;
      }
      for (let i = depth + 1; i < theirs.length - 1; i++) net(theirs[i], source).to.add(theirs[i + 1]);
    }
  }

  function place(each) {
    for (const item of each.items) {
      if (item.kind !== "group") continue;
      place(item);
      item.label = short(item.part.label, each.part.key);
      item.w = Math.max(item.inner.w, textWidth(item.label, true) + 26) + 2 * GAP.pad;
      item.h = item.inner.h + GAP.head + GAP.pad;
      item.indent = (item.w - item.inner.w) / 2;
      item.port = (net, below) => item.inner[below ? "bottom" : "top"].get(net) - item.inner.w / 2;
    }
    const nets = [...each.nets.values()].map((net) => ({...net, to: [...net.to]}));
    each.inner = layered(each.items, nets);
  }

  function settle(each, x, y, scene) {
    const items = new Map(each.items.map((item) => [item.key, item]));
    for (const line of each.inner.lines) {
      const corners = line.points.map(([px, py]) => [px + x, py + y]);
      const from = items.get(each.nets.get(line.net).from);
      const to = items.get(line.to);
      if (!from) for (const corner of corners.slice(0, 2)) corner[1] -= GAP.head;
      else if (from.kind === "group") {
        const port = x + from.x + from.indent + from.inner.bottom.get(line.net);
        corners[0][0] = corners[1][0] = port;
      }
      if (!to) for (const corner of corners.slice(-2)) corner[1] += GAP.pad;
      else if (to.kind === "group") {
        const port = x + to.x + to.indent + to.inner.top.get(line.net);
        for (const corner of corners.slice(-2)) corner[0] = port;
      }
      scene.lines.push({from: line.net, to: line.to, corners, arrow: Boolean(to) && to.kind !== "group"});
    }
    for (const item of each.items) {
      item.x += x;
      item.y += y;
      if (item.kind === "group") {
        scene.groups.push(item);
        settle(item, item.x + item.indent, item.y + GAP.head, scene);
      } else scene.boxes.push(item);
    }
  }
}

// Inside a group, the outermost module need not be named again.
function short(label, parent) {
  const rest = label.replace(/^[^/]*\//, "");
  return parent && /[A-Za-z]/.test(rest) ? rest : label;
}

function idsOf(part) {
  return part.parts.flatMap((each) => (typeof each === "number" ? [each] : idsOf(each)));
}

// The pairs of boxes that a line joins, each once.
function joined(graph, seen) {
  const pairs = new Map();
  for (const [id, target] of seen)
    for (const operand of data.nodes[id].inputs) {
      const source = seen.get(operand);
      if (source !== undefined && source !== target) pairs.set(`${source} ${target}`, [source, target]);
    }
  return pairs.values();
}
