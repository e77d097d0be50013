// Layout: each group is laid out in layers on its own, then stands as one box in its parent's
// layout. So boxes cannot overlap, and lines pass between them through places kept for them.

const GAP = {x: 22, y: 34, pad: 16, head: 28, lane: 9};

// One level. `items` {key, w, h, port} stand in a topological order; `port(net, below)` gives where a
// line meets the item, from its middle. A net {key, from, to, leaves} leads from one item (or from
// above, where `from` is null) to several, and on downwards if it `leaves`. Sets x, y (top left) of
// every item and gives {w, h, lines, top, bottom}.
function layered(items, nets) {
  const places = items.map((item) => ({item, w: item.w, h: item.h, layer: 0, up: [], down: []}));
  const byKey = new Map(places.map((place) => [place.item.key, place]));
  assignLayers(places, byKey, nets);
  const count = 1 + Math.max(-1, ...places.map((place) => place.layer));
  const layers = Array.from({length: count + 2}, () => []); // the first and last hold the ports
  for (const place of places) layers[place.layer + 1].push(place);
  const lines = nets.map((net) => threaded(net, byKey, layers));
  order(layers);
  const width = spread(layers);
  const bands = stack(layers, places);
  const ports = (layer) => new Map(layer.map((place) => [place.net, place.x]));
  return {
    w: width,
    h: bands.height,
    top: ports(layers[0]),
    bottom: ports(layers[layers.length - 1]),
    lines: lines.flatMap((line) => line.map((each) => ({...each, points: points(each, bands)}))),
  };
}

function assignLayers(places, byKey, nets) {
  const pairs = [];
  for (const net of nets) {
    if (net.from === null) continue;
    for (const to of net.to) pairs.push([byKey.get(net.from), byKey.get(to)]);
  }
  const into = new Map(places.map((place) => [place, []]));
  const outOf = new Map(places.map((place) => [place, []]));
  for (const [from, to] of pairs) {
    into.get(to).push(from);
    outOf.get(from).push(to);
  }
  for (const place of places)
    for (const from of into.get(place)) place.layer = Math.max(place.layer, from.layer + 1);
  for (const place of [...places].reverse()) {
    // what nothing leads to stands right above its first user
    const users = outOf.get(place);
    if (!into.get(place).length && users.length)
      place.layer = Math.min(...users.map((user) => user.layer)) - 1;
  }
  const least = Math.min(0, ...places.map((place) => place.layer));
  for (const place of places) place.layer -= least;
}

// Keeps a lane in every layer that a net passes, one for all its targets. Gives its lines.
function threaded(net, byKey, layers) {
  const start = net.from === null ? lane(net.key, layers[0]) : byKey.get(net.from);
  const first = net.from === null ? 0 : start.layer + 1;
  const targets = net.to.map((key) => byKey.get(key));
  const chain = [start];
  const deepest = net.leaves ? layers.length - 1 : Math.max(...targets.map((t) => t.layer + 1)) - 1;
  for (let row = first + 1; row <= deepest; row++) {
    const next = lane(net.key, layers[row]);
    join(net.key, last(chain), next);
    chain.push(next);
  }
  const lines = targets.map((target) => {
    const via = chain.slice(0, target.layer + 1 - first);
    join(net.key, last(via), target);
    return {net: net.key, to: target.item.key, via: [...via, target]};
  });
  if (net.leaves) lines.push({net: net.key, to: null, via: chain});
  return lines;
}

function lane(net, layer) {
  const place = {net, w: GAP.lane, h: 0, up: [], down: []};
  layer.push(place);
  return place;
}

// Neighbours know how far apart their middles are when the line between them is straight.
function join(net, above, below) {
  const port = (place, under) => (place.item && place.item.port ? place.item.port(net, under) : 0);
  const shift = port(above, true) - port(below, false);
  const weight = above.item && below.item ? 2 : above.item || below.item ? 0.5 : 4;
  above.down.push({place: below, shift: -shift, weight});
  below.up.push({place: above, shift, weight});
}

// Orders each layer by the mean place of its neighbours, downwards and upwards in turn.
function order(layers) {
  const settle = (layer) => layer.forEach((place, index) => (place.at = index));
  layers.forEach(settle);
  for (let sweep = 0; sweep < 8; sweep++) {
    const down = sweep % 2 === 0;
    for (const layer of down ? layers : [...layers].reverse()) {
      for (const place of layer) {
        const near = down ? place.up : place.down;
        place.wish = near.length ? mean(near.map((each) => [each.place.at, 1])) : place.at;
      }
      layer.sort((a, b) => a.wish - b.wish || a.at - b.at);
      settle(layer);
    }
  }
}

function mean(pairs) {
  let sum = 0, weights = 0;
  for (const [number, weight] of pairs) {
    sum += number * weight;
    weights += weight;
  }
  return sum / weights;
}

// Gives each place an x (its middle): near its neighbours, without touching others in its layer.
function spread(layers) {
  for (const layer of layers) {
    let x = 0;
    for (const place of layer) {
      place.x = x + place.w / 2;
      x += place.w + GAP.x;
    }
  }
  for (let sweep = 0; sweep < 15; sweep++) {
    const down = sweep % 2 === 0 || sweep > 11; // the last ones straighten what leads downwards
    for (const layer of down ? layers : [...layers].reverse()) {
      for (const place of layer) {
        const above = down && place.up.length ? place.up : [];
        const near = above.length ? above : place.down;
        const wishes = near.map((each) => [each.place.x + each.shift, each.weight]);
        place.wish = near.length ? mean(wishes) : place.x;
      }
      keepApart(layer);
    }
  }
  const every = layers.flat();
  const left = every.length ? Math.min(...every.map((place) => place.x - place.w / 2)) : 0;
  for (const place of every) place.x -= left;
  return Math.max(0, ...every.map((place) => place.x + place.w / 2));
}

// Least squares under an order: neighbours that would touch move as one block.
function keepApart(layer) {
  const blocks = [];
  let offset = 0;
  layer.forEach((place, index) => {
    if (index) {
      const lanes = layer[index - 1].net !== undefined && place.net !== undefined;
      offset += (layer[index - 1].w + place.w) / 2 + (lanes ? 2 : GAP.x);
    }
    place.offset = offset;
    const weight = place.item ? 8 : place.up.some((each) => each.place.item) ? 0.5 : 2;
    let block = {sum: (place.wish - offset) * weight, weight, places: [place]};
    while (blocks.length && last(blocks).sum / last(blocks).weight > block.sum / block.weight) {
      const before = blocks.pop();
      block = {
        sum: before.sum + block.sum,
        weight: before.weight + block.weight,
        places: before.places.concat(block.places),
      };
    }
    blocks.push(block);
  });
  for (const block of blocks)
    for (const place of block.places) place.x = block.sum / block.weight + place.offset;
}

function last(list) {
  return list[list.length - 1];
}

function stack(layers, places) {
  let y = 0;
  const inner = layers.slice(1, -1);
  const bands = new Map();
  for (const place of layers[0]) bands.set(place, [0, 0, 0, 0]);
  inner.forEach((layer, index) => {
    const height = Math.max(0, ...layer.map((place) => place.h));
    for (const place of layer) {
      const slack = (height - place.h) / 2;
      const [top, bottom] = place.item ? [y + slack, y + slack + place.h] : [y, y + height];
      bands.set(place, [top, bottom, y, y + height]);
    }
    y += height + (index < inner.length - 1 ? GAP.y : 0);
  });
  for (const place of last(layers)) bands.set(place, [y, y, y, y]);
  for (const place of places) {
    place.item.x = place.x - place.w / 2;
    place.item.y = bands.get(place)[0];
  }
  bands.height = y;
  return bands;
}

// The corners of a line. A box may be smaller than its layer, which the line leaves straight. The
// first two and the last two corners are those of boxes, which may have ports elsewhere.
function points(line, bands) {
  return line.via.flatMap((place, index) => {
    const [top, bottom, high, low] = bands.get(place);
    if (index === 0) return [[place.x, bottom], [place.x, low]];
    if (index === line.via.length - 1) return [[place.x, high], [place.x, top]];
    return [[place.x, high], [place.x, low]];
  });
}

// A smooth line through corners, vertical at each.
function curve(corners) {
  let path = `M${corners[0][0].toFixed(1)} ${corners[0][1].toFixed(1)}`;
  for (let i = 1; i < corners.length; i++) {
    const [x0, y0] = corners[i - 1];
    const [x1, y1] = corners[i];
    if (x0 === x1 && y0 === y1) continue; // an arrow at its end would point anywhere
    const middle = (y0 + y1) / 2;
    path +=
      Math.abs(x0 - x1) < 0.5
        ? `L${x1.toFixed(1)} ${y1.toFixed(1)}`
        : `C${x0.toFixed(1)} ${middle.toFixed(1)} ${x1.toFixed(1)} ${middle.toFixed(1)} ` +
          `${x1.toFixed(1)} ${y1.toFixed(1)}`;
  }
  return path;
}
