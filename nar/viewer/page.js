"use strict";
// Draws a trajectory (nar/viewer/trajectory.py) step by step: the algorithm's values on the left, the model's on the right.

const MAX_ZOOM = 12;
const PLAY_MS = 700;
const FEW_WEIGHTS = 30; // of edges, so that there is room for their weights
const MANY_EDGES = 200;
const LONG_NAME = 4; // characters of a node's name that have room in a circle
const CELL = 15; // half the height of a cell
const LANE = 11; // the height of a name below a row of cells
const TABLE = 560; // the width of a table of pairs
// White, grey and black first: they can be told apart by anybody, and badges have letters besides.
const CLASS_COLOURS = ["#ffffff", "#b8b8b8", "#1a1a1a", "#e69f00", "#cc79a7", "#009e73", "#f0e442", "#56b4e9"];
const $ = (id) => document.getElementById(id);

let run; // the trajectory
let last; // the last step, of the model or of the algorithm
const state = { t: 0, focus: 0, shown: new Set(), layout: 0, asTable: false, near: null, kept: false, timer: null };
const zoom = { scale: 1, x: 0, y: 0 }; // x and y: the upper left corner, in units of the drawing

async function unpacked() {
  const bytes = Uint8Array.from(atob($("data").textContent.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// ---------------------------------------------------------------------------------------------- values of probes

const isOne = (probe) => probe.location === "graph" || probe.type === "mask_one"; // one value, not one for each node
const isPointer = (probe) => probe.type.includes("pointer") || probe.type === "should_be_permutation";

/** How a probe is drawn. Of tags and values of the graph there can be several, of anything else one at a time. */
function channel(probe) {
  if (probe.location === "graph") return "graph";
  if (probe.location === "edge") return "pairs";
  return { mask: "fill", mask_one: "tag", scalar: "number", categorical: "badge" }[probe.type] ?? "arrow";
}

/**
 * A probe's value at time t, "true" or "predicted"; null where there is none, and entries that are not scored are null in
 * predictions too. Of outputs it is always the answer.
 */
function value(probe, side, t) {
  if (probe.stage === "input" || (side === "predicted" && probe.stage === "hint" && t === 0)) side = "true"; // as given
  const at = probe.stage === "hint" ? t : 0;
  const now = probe[side][at] ?? null, truth = probe.true[at] ?? null;
  if (side === "true" || isOne(probe) || now === null || truth === null || !truth.includes(null)) return now;
  return now.map((x, i) => (truth[i] === null ? null : x));
}

function differs(probe, truth, prediction) {
  if (truth === null || prediction === null || truth === undefined || prediction === undefined) return false;
  return probe.type === "scalar" ? Math.abs(truth - prediction) > probe.tolerance : truth !== prediction;
}

/** How many entries of a prediction differ from the truth, and of how many. */
function count(probe, t) {
  const [truth, prediction] = [value(probe, "true", t), value(probe, "predicted", t)];
  if (truth === null || prediction === null) return [0, 0];
  if (isOne(probe)) return [Number(differs(probe, truth, prediction)), 1];
  let wrong = 0, all = 0;
  for (let i = 0; i < truth.length; i++) {
    if (truth[i] === null) continue;
    all++;
    wrong += differs(probe, truth[i], prediction[i]);
  }
  return [wrong, all];
}

/** The share of wrong entries at every time, of answers at the last; computed once. */
function shares(probe) {
  probe.shares ??= Array.from({ length: last + 1 }, (_, t) => {
    const isThere = probe.stage === "hint" ? t > 0 : probe.stage === "output" && t === last;
    const [wrong, all] = isThere ? count(probe, t) : [0, 0];
    return all ? wrong / all : 0;
  });
  return probe.shares;
}

function number(x) {
  if (Number.isInteger(x)) return String(x);
  const text = Math.abs(x) >= 100 ? x.toFixed(0) : Math.abs(x) >= 10 ? x.toFixed(1) : x.toFixed(2);
  return text.replace(/^(-?)0\./, "$1.");
}

function text(probe, x) {
  if (x === null || x === undefined) return "–";
  if (probe.type === "scalar") return number(x);
  if (probe.type === "categorical") return probe.classes[x] ?? String(x);
  if (probe.type === "mask") return x ? "yes" : "no";
  return run.nodes[x] ?? String(x);
}

const escaped = (x) => String(x).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const f = (x) => x.toFixed(1);
const steps = (n) => `${n} step${n === 1 ? "" : "s"}`;

// ------------------------------------------------------------------------------------------------------- drawing

const focused = () => run.tracks[state.focus];
const shownAs = (kind) => run.tracks.filter((probe, i) => state.shown.has(i) && channel(probe) === kind);

/** Whether the focus is a probe of pairs of nodes that is drawn as a table and not along edges. */
function isTable() {
  const probe = focused();
  return channel(probe) === "pairs" && (probe.type !== "mask" || run.edges === null || state.asTable);
}

function head(x, y, dx, dy, kind, size = 8) {
  const length = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [dx / length, dy / length];
  const [bx, by] = [x - ux * size, y - uy * size];
  const w = size * 0.5;
  return `<polygon class="${kind}" points="${f(x)},${f(y)} ${f(bx - uy * w)},${f(by + ux * w)} ${f(bx + uy * w)},${f(by - ux * w)}"/>`;
}

function mark(x, y, sign, size) {
  return `<text class="mark" x="${f(x)}" y="${f(y)}" font-size="${size}">${sign}</text>`;
}

/** An arrow from one node to another, which may be the same. */
function arrow(layout, i, j, isWrong) {
  const wrong = isWrong ? " wrong" : "";
  const [xi, yi] = layout.positions[i], [xj, yj] = layout.positions[j];
  const [ox, oy] = layout.outward[i];
  const isCell = layout.shape === "cell";
  const reach = isCell ? CELL : layout.size;
  if (i === j) {
    const r = isCell ? 4 : Math.max(3.2, layout.size * 0.3);
    const [x, y] = [xi - ox * (reach + r), yi - oy * (reach + r)];
    return `<circle class="arrow${wrong}" cx="${f(x)}" cy="${f(y)}" r="${f(r)}"/>` + (isWrong ? mark(x, y, "✗", 12) : "");
  }
  let start, middle, end;
  if (isCell && yi === yj) { // an arc above the row
    const side = Math.sign(xj - xi);
    const height = Math.min(80, 18 + 6 * Math.sqrt(Math.abs(xj - xi)));
    start = [xi + 5 * side, yi - reach];
    end = [xj - 5 * side, yj - reach - 1];
    middle = [(xi + xj) / 2, yi - reach - height];
  } else {
    const [dx, dy] = [xj - xi, yj - yi];
    const length = Math.hypot(dx, dy) || 1;
    const bend = Math.min(0.1 * length, 22);
    middle = [(xi + xj) / 2 - (dy / length) * bend, (yi + yj) / 2 + (dx / length) * bend];
    const from = unit(middle[0] - xi, middle[1] - yi), to = unit(xj - middle[0], yj - middle[1]);
    start = [xi + from[0] * reach, yi + from[1] * reach];
    end = [xj - to[0] * (reach + 2), yj - to[1] * (reach + 2)];
  }
  const [tx, ty] = unit(end[0] - middle[0], end[1] - middle[1]);
  const size = Math.min(9, Math.max(6, layout.size * 0.6));
  const [bx, by] = [end[0] - tx * size * 0.7, end[1] - ty * size * 0.7];
  const [mx, my] = [0.25 * start[0] + 0.5 * middle[0] + 0.25 * end[0], 0.25 * start[1] + 0.5 * middle[1] + 0.25 * end[1]];
  return `<path class="arrow${wrong}" d="M${f(start[0])},${f(start[1])} Q${f(middle[0])},${f(middle[1])} ${f(bx)},${f(by)}"/>` +
    head(end[0], end[1], tx, ty, `head${wrong}`, size) + (isWrong ? mark(mx, my, "✗", 14) : "");
}

function unit(x, y) {
  const length = Math.hypot(x, y) || 1;
  return [x / length, y / length];
}

/** The graph's edges, and on them a mask of pairs if one is shown. */
function drawEdges(layout, side) {
  if (run.edges === null) return "";
  const [probe] = shownAs("pairs").filter((one) => one.type === "mask" && one.stage !== "input");
  const now = probe && value(probe, side, state.t);
  const truth = probe && value(probe, "true", state.t);
  const n = run.nodes.length, directed = run.edges.are_directed;
  const many = run.edges.pairs.length > MANY_EDGES ? " many" : "";
  const line = (u, v, kind, isHeaded) => {
    const [xu, yu] = layout.positions[u], [xv, yv] = layout.positions[v];
    const [dx, dy] = unit(xv - xu, yv - yu);
    const gap = layout.size + 1;
    const tip = [xv - dx * gap, yv - dy * gap];
    const parts = `<line class="edge ${kind}" data-u="${u}" data-v="${v}" x1="${f(xu)}" y1="${f(yu)}" x2="${f(tip[0])}" y2="${f(tip[1])}"/>`;
    return parts + (isHeaded ? head(tip[0], tip[1], dx, dy, `edge-head ${kind}`, kind.includes("on") ? 9 : 6) : "");
  };
  let drawn = run.edges.pairs.map(([u, v]) => line(u, v, many, directed)).join("");
  const weights = run.tracks.find((one) => one.stage === "input" && one.location === "edge" && one.type === "scalar");
  const distinct = weights && new Set(weights.true[0]).size > 2;
  if (distinct && run.edges.pairs.length <= FEW_WEIGHTS) {
    for (const [u, v] of run.edges.pairs) {
      const [xu, yu] = layout.positions[u], [xv, yv] = layout.positions[v];
      drawn += `<text class="weight number" x="${f(xu + 0.42 * (xv - xu))}" y="${f(yu + 0.42 * (yv - yu))}">${number(weights.true[0][u * n + v])}</text>`;
    }
  }
  if (!now) return drawn;
  for (let u = 0; u < n; u++) {
    for (let v = directed ? 0 : u + 1; v < n; v++) {
      if (u === v) continue;
      const both = directed ? [u * n + v] : [u * n + v, v * n + u];
      const isOn = both.some((i) => now[i] === 1);
      const isWrong = side === "predicted" && both.some((i) => differs(probe, truth[i], now[i]));
      if (!isOn && !isWrong) continue;
      drawn += line(u, v, isOn ? (isWrong ? "on wrong" : "on") : "missed", directed && isOn);
      if (isWrong) {
        const [xu, yu] = layout.positions[u], [xv, yv] = layout.positions[v];
        drawn += mark((xu + xv) / 2, (yu + yv) / 2, "✗", 13);
      }
    }
  }
  return drawn;
}

/** The tags of every node: names of the shown probes that are at one node, and of those that should be, the truth. */
function tagsOf(side) {
  const tags = run.nodes.map(() => []);
  const layout = run.layouts[state.layout];
  shownAs("tag").forEach((probe, lane) => {
    const node = value(probe, side, state.t), truth = value(probe, "true", state.t);
    const isWrong = side === "predicted" && differs(probe, truth, node);
    if (node !== null) tags[node]?.push({ text: (isWrong ? "≠" : "") + probe.name, kind: isWrong ? "tag wrong" : "tag", lane });
    if (!isWrong || !layout.positions[node]) return;
    const [[x, y], [tx, ty]] = [layout.positions[node], layout.positions[truth]];
    const isClose = layout.shape === "cell" && y === ty && Math.abs(x - tx) < 14 + 6.4 * probe.name.length;
    if (!isClose) tags[truth].push({ text: `(${probe.name})`, kind: "tag missed", lane });
  });
  return tags;
}

/** What a side shows of the probe that is drawn in one way: its values, and whether a node's is another than the truth. */
function shownOf(kind, side) {
  const [probe] = shownAs(kind);
  const values = probe ? value(probe, side, state.t) : null;
  const truth = probe && side === "predicted" ? value(probe, "true", state.t) : null;
  return { probe, values, isWrong: (node) => values !== null && truth !== null && differs(probe, truth[node], values[node]) };
}

function drawNodes(side) {
  const layout = run.layouts[state.layout];
  const isCell = layout.shape === "cell";
  const [fill, badge, numbers, arrows] = ["fill", "badge", "number", "arrow"].map((kind) => shownOf(kind, side));
  const tags = tagsOf(side), bars = isCell ? barsOf() : null;
  const nodes = run.nodes.map((name, node) => {
    const parts = [
      isCell ? drawCell(layout, node, fill, bars) : drawCircle(layout, node, fill),
      tags[node].some((tag) => tag.kind !== "tag missed") ? frame(layout, node, "ring", 1.5) : "",
      fill.isWrong(node) ? frame(layout, node, "outline", 4) : "",
      badge.values && badge.values[node] !== null ? drawBadge(layout, node, badge) : "",
      drawBeside(layout, node, fill, numbers, tags[node]),
    ];
    return `<g class="node" data-node="${node}">${parts.join("")}</g>`;
  }).join("");
  const pointers = (arrows.values ?? []).map((target, node) => (target !== null && layout.positions[target] ? arrow(layout, node, target, arrows.isWrong(node)) : "")).join("");
  return drawEdges(layout, side) + drawSegments(layout) + (isCell ? nodes + pointers : pointers + nodes);
}

/** The class by which a node is filled. */
function filling(fill, node) {
  if (!fill.values) return "body";
  return fill.values[node] === null ? "body none" : fill.values[node] ? "body yes" : "body";
}

function drawCircle(layout, node, fill) {
  const [x, y] = layout.positions[node], name = run.nodes[node], r = layout.size;
  const size = Math.min(13, r * 1.05, (3.2 * r) / name.length);
  return `<circle class="${filling(fill, node)}" cx="${f(x)}" cy="${f(y)}" r="${f(r)}"/>` +
    (name.length > LONG_NAME ? "" : label("name", x, y, name, size));
}

/** A cell with what it is labelled with, or else its name; behind that a bar as high as its number. */
function drawCell(layout, node, fill, bars) {
  const [x, y] = layout.positions[node], half = layout.size, lines = run.labels[node];
  const parts = [`<rect class="${filling(fill, node)}" x="${f(x - half)}" y="${f(y - CELL)}" width="${f(2 * half)}" height="${2 * CELL}" rx="3"/>`];
  if (bars) parts.push(`<rect class="bar" x="${f(x - half + 1)}" y="${f(y + CELL - 1 - 28 * bars[node])}" width="${f(2 * half - 2)}" height="${f(28 * bars[node])}"/>`);
  if (!lines.length) return parts.join("") + label("name", x, y, run.nodes[node], 11);
  lines.forEach((line, i) => parts.push(label("name", x, y + (i - (lines.length - 1) / 2) * 13, line, 11)));
  return parts.join("") + label("name aside", x, y + CELL + 6, run.nodes[node], 9);
}

/** A line around a node, at some distance. */
function frame(layout, node, kind, gap) {
  const [x, y] = layout.positions[node], r = layout.size + gap;
  return layout.shape === "cell"
    ? `<rect class="${kind}" x="${f(x - r)}" y="${f(y - CELL - gap)}" width="${f(2 * r)}" height="${f(2 * (CELL + gap))}" rx="4"/>`
    : `<circle class="${kind}" cx="${f(x)}" cy="${f(y)}" r="${f(r)}"/>`;
}

function label(kind, x, y, content, size, anchor = "middle") {
  return `<text class="${kind}" style="text-anchor:${anchor}" font-size="${f(size)}" x="${f(x)}" y="${f(y)}">${escaped(content)}</text>`;
}

/** What is written beside a node, one after the other outwards (of a cell below it): a long name, a number and tags. */
function drawBeside(layout, node, fill, numbers, tags) {
  const [x, y] = layout.positions[node], [ox, oy] = layout.outward[node];
  const isCell = layout.shape === "cell", size = layout.size < 13 ? 9 : 11;
  const anchor = ox > 0.35 ? "start" : ox < -0.35 ? "end" : "middle";
  const parts = [];
  let away = isCell ? CELL + 17 : layout.size + 9;
  const write = (kind, content) => {
    parts.push(label(kind, x + ox * away, y + oy * away, content, size, anchor));
    away += anchor === "middle" ? size + 1.5 : content.length * size * 0.6 + 4;
  };
  if (!isCell && run.nodes[node].length > LONG_NAME) write("number", run.nodes[node]);
  if (fill.isWrong(node)) {
    if (isCell) parts.push(mark(x + layout.size - 4, y - 10, "≠", 10));
    else write("tag wrong", "≠");
  }
  if (numbers.values && numbers.values[node] !== null) {
    const isWrong = numbers.isWrong(node);
    write(isWrong ? "number wrong" : "number", (isWrong ? "≠" : "") + number(numbers.values[node]));
  }
  for (const tag of tags) {
    if (isCell) away = CELL + (numbers.values ? 28 : 17) + LANE * tag.lane;
    write(tag.kind, tag.text);
  }
  return parts.join("");
}

/** A small circle at a node's corner with the colour and the initial of its class. */
function drawBadge(layout, node, { probe, values, isWrong }) {
  const [x, y] = layout.positions[node], corner = layout.size * 0.9;
  const [cx, cy] = [x - corner, y - (layout.shape === "cell" ? CELL - 2 : corner)];
  const initials = probe.classes.map((name) => name[0]?.toUpperCase());
  const sign = new Set(initials).size === initials.length ? initials[values[node]] : values[node];
  const colour = CLASS_COLOURS[values[node] % CLASS_COLOURS.length];
  const ink = colour === "#1a1a1a" ? "#ffffff" : "#000000";
  const wrong = isWrong(node) ? " wrong" : "";
  return `<g class="badge${wrong}"><circle cx="${f(cx)}" cy="${f(cy)}" r="6.5" fill="${colour}"/>` +
    `<text font-size="8.5" x="${f(cx)}" y="${f(cy)}" fill="${ink}">${escaped(sign)}</text></g>` + (wrong ? mark(cx - 10, cy - 3, "≠", 12) : "");
}

/** The two segments of segments_intersect. */
function drawSegments(layout) {
  if (run.algorithm !== "segments_intersect") return "";
  return [[0, 1], [2, 3]].map(([a, b]) => {
    const [xa, ya] = layout.positions[a], [xb, yb] = layout.positions[b];
    return `<line class="segment" x1="${f(xa)}" y1="${f(ya)}" x2="${f(xb)}" y2="${f(yb)}"/>`;
  }).join("");
}

/** The heights of the bars in cells, from 0 to 1, for the first number that cells show. */
function barsOf() {
  const probe = run.tracks.find((one) => one.name === run.label_names[0] && one.type === "scalar");
  if (!probe) return null;
  const values = probe.true[0];
  const [low, high] = [Math.min(0, ...values), Math.max(...values)];
  return values.map((x) => (high > low ? (x - low) / (high - low) : 0));
}

/** From white to dark blue; and a colour of text that can be read on it. */
function heat(share) {
  const stops = [[255, 255, 255], [86, 180, 233], [0, 60, 110]];
  const at = Math.min(Math.max(share, 0), 1) * 2, low = Math.min(Math.floor(at), 1);
  const colour = stops[low].map((x, i) => Math.round(x + (at - low) * (stops[low + 1][i] - x)));
  return [`rgb(${colour})`, share > 0.68 ? "#ffffff" : "#000000"];
}

/** The rows and columns of tables: all nodes, or of two strings the first's and the second's. */
function axes() {
  const all = run.nodes.map((_, node) => node);
  return run.sequences.length === 2 ? run.sequences : [all, all];
}

function tableSize() {
  const [rows, columns] = axes();
  const cell = Math.min(40, (TABLE - 34) / Math.max(rows.length, columns.length));
  return { cell, width: 34 + cell * columns.length, height: 34 + cell * rows.length };
}

function drawTable(side) {
  const probe = focused(), n = run.nodes.length;
  const now = value(probe, side, state.t), truth = value(probe, "true", state.t);
  const [rows, columns] = axes();
  const { cell } = tableSize();
  const all = probe.true.flat().filter((x) => x !== null);
  const [low, high] = probe.type === "scalar" ? bounds(all) : [0, Math.max(1, probe.type === "categorical" ? probe.classes.length - 1 : probe.type === "mask" ? 1 : n - 1)];
  const every = Math.ceil(10 / cell); // of so many rows one is named
  const titled = (node) => (run.labels[node].length === 1 && run.sequences.length === 2 ? `${run.nodes[node]} ${run.labels[node][0]}` : run.nodes[node]);
  const drawn = [];
  const size = Math.min(12, Math.max(7, cell * 0.5));
  rows.forEach((i, r) => r % every || drawn.push(`<text class="heading" x="17" y="${f(34 + cell * (r + 0.5))}">${escaped(titled(i))}</text>`));
  columns.forEach((j, c) => c % every || drawn.push(`<text class="heading" x="${f(34 + cell * (c + 0.5))}" y="${c % 2 && cell < 24 ? 10 : 22}">${escaped(titled(j))}</text>`));
  if (now === null) return drawn.join("") + `<text class="heading" x="${f(34 + cell * columns.length / 2)}" y="60">nothing is predicted here</text>`;
  rows.forEach((i, r) => columns.forEach((j, c) => {
    const x = now[i * n + j], [left, top] = [34 + cell * c, 34 + cell * r];
    const [colour, ink] = x === null ? ["#ececea", "#000000"] : heat(high > low ? (0.9 * (x - low)) / (high - low) : 0);
    const isWrong = side === "predicted" && differs(probe, truth?.[i * n + j], x);
    drawn.push(`<rect class="cell${isWrong ? " wrong" : ""}" data-i="${i}" data-j="${j}" x="${f(left)}" y="${f(top)}" width="${f(cell)}" height="${f(cell)}" fill="${colour}"/>`);
    if (isWrong && cell >= 16) drawn.push(`<path class="cross" stroke-width="1.8" d="M${f(left + 1)},${f(top + 1)} h${f(cell - 2)} v${f(cell - 2)} h${f(2 - cell)} z"/><path class="notch" d="M${f(left + cell - 1)},${f(top + cell * 0.66)} V${f(top + cell - 1)} H${f(left + cell * 0.66)} z"/>`);
    else if (isWrong) drawn.push(`<path class="notch" d="M${f(left + cell)},${f(top)} V${f(top + cell)} H${f(left)} z"/>`);
    if (cell >= 16 && x !== null) {
      const content = probe.type === "mask" ? (x ? "1" : "") : probe.type === "categorical" ? sign(probe, x) : text(probe, x);
      drawn.push(`<text class="cell-text" font-size="${f(Math.min(size, (1.5 * cell) / Math.max(content.length, 2)))}" x="${f(left + cell / 2)}" y="${f(top + cell / 2)}" fill="${ink}">${escaped(content)}</text>`);
    }
  }));
  return drawn.join("");
}

/** What stands for a class in a table; arrows for the two directions of a longest common subsequence. */
function sign(probe, x) {
  const name = probe.classes[x] ?? String(x);
  return { both: "↖", "without 1st": "↑", "without 2nd": "←", none: "" }[name] ?? name;
}

function bounds(values) {
  let low = Infinity, high = -Infinity;
  for (const x of values) { low = Math.min(low, x); high = Math.max(high, x); }
  return [low, high];
}

// ------------------------------------------------------------------------------------------------- parts of the page

function renderPanels() {
  const table = isTable();
  const layout = run.layouts[state.layout];
  const { width, height } = table ? tableSize() : layout;
  $("panels").classList.toggle("stacked", !table && layout.shape === "cell");
  for (const side of ["true", "predicted"]) {
    const svg = $(side);
    svg.setAttribute("viewBox", [zoom.x, zoom.y, width / zoom.scale, height / zoom.scale].map(f).join(" "));
    svg.setAttribute("preserveAspectRatio", !table && layout.shape === "cell" ? "xMinYMin meet" : "xMidYMid meet");
    svg.innerHTML = table ? drawTable(side) : drawNodes(side);
    $(`${side}-value`).textContent = readout(side);
    $(`${side}-value`).parentElement.title = $(`${side}-value`).textContent;
  }
  markNear();
}

/** The focus's value where it is one; of pointers the sequence that they make, if they make one. */
function readout(side) {
  const probe = focused(), now = value(probe, side, state.t);
  if (now === null) return side === "true" || probe.predicted.length ? "has ended" : "the model does not predict it";
  const notes = [];
  const given = side === "predicted" && state.t === 0 && probe.stage === "hint";
  if (given) notes.push("given at the start");
  if (isOne(probe)) {
    const isWrong = side === "predicted" && differs(probe, value(probe, "true", state.t), now);
    notes.push(`${probe.name} = ${text(probe, now)}${isWrong ? ` ≠ ${text(probe, value(probe, "true", state.t))}` : ""}`);
  } else if (probe.name.startsWith("pred") && run.layouts[0].shape === "cell" && run.sequences.length === 1) {
    const order = sequence(now);
    notes.push(order ? `order: ${order.map((node) => run.nodes[node]).join(" ")}` : "the pointers make no single sequence");
  } else if (side === "predicted" && probe.stage !== "input" && !given) {
    const [wrong, all] = count(probe, state.t);
    if (all) notes.push(wrong ? `${wrong} of ${all} differ` : `all ${all} right`);
  }
  return notes.join(" · ");
}

/** Nodes in the order that pointers to predecessors make, the first of which points at itself; null if they make none. */
function sequence(predecessors) {
  const next = new Map();
  let node = null;
  predecessors.forEach((before, i) => { if (before === i) node = i; else next.set(before, i); });
  const order = [];
  while (node !== undefined && node !== null && order.length < predecessors.length) { order.push(node); node = next.get(node); }
  return order.length === predecessors.length ? order : null;
}

function renderProbes() {
  for (const row of $("probes").querySelectorAll(".probe")) {
    const i = Number(row.dataset.index), probe = run.tracks[i];
    row.classList.toggle("focus", i === state.focus);
    row.setAttribute("aria-selected", i === state.focus);
    row.querySelector("input").checked = state.shown.has(i);
    const cell = row.querySelector(".count");
    const [wrong, all] = probe.stage === "input" ? [0, 0] : count(probe, state.t);
    const [truth, prediction] = [value(probe, "true", state.t), value(probe, "predicted", state.t)];
    if (isOne(probe)) cell.textContent = text(probe, truth) + (wrong ? ` ≠ ${text(probe, prediction)}` : "");
    else if (all === 0 || (state.t === 0 && probe.stage === "hint")) cell.textContent = "";
    else cell.textContent = wrong ? `≠ ${wrong}/${all}` : "✓";
    cell.classList.toggle("wrong", wrong > 0);
  }
}

function renderMeaning() {
  const probe = focused();
  const place = probe.type === "mask_one" ? "graph" : probe.location;
  $("meaning").innerHTML = `<code>${escaped(probe.name)}</code> <span class="kind">${probe.stage} · ${place} · ${probe.type}</span><br>${escaped(probe.meaning)}` +
    (probe.type === "scalar" && probe.stage !== "input" ? ` <span class="kind">≠ marks what is off by more than ${number(probe.tolerance)}, a tenth of its range.</span>` : "");
}

function renderTimeline() {
  $("step").value = state.t;
  $("step-name").textContent = state.t === 0 ? `start, ${steps(last)} follow` : `step ${state.t} of ${last}`;
  $("step").setAttribute("aria-valuetext", $("step-name").textContent);
  const bars = shares(focused());
  $("strip").setAttribute("viewBox", `-0.5 0 ${last + 1} 1`);
  $("strip").innerHTML = bars.map((share, t) => (share ? `<rect x="${t - 0.4}" y="${1 - Math.max(share, 0.12)}" width="0.8" height="${Math.max(share, 0.12)}" fill="#d55e00"/>` : "")).join("") +
    `<rect x="${state.t - 0.5}" y="0" width="1" height="1" fill="none" stroke="#1a1a1a" stroke-width="2" vector-effect="non-scaling-stroke"/>`;
}

function renderLegend() {
  const icon = { arrow: '<path class="arrow" d="M1,7 H17"/><polygon class="head" points="25,7 16,3 16,11"/>', fill: '<g class="node"><circle class="body yes" cx="13" cy="7" r="6"/></g>', tag: '<circle cx="8" cy="7" r="5.5" fill="none" stroke="#1a1a1a" stroke-width="2.4"/><text x="17" y="11" font-size="11" font-weight="700">t</text>', number: '<text x="1" y="12" font-size="12">.42</text>', badge: '<circle cx="7" cy="7" r="6" fill="#fff" stroke="#000"/><circle cx="19" cy="7" r="6" fill="#1a1a1a"/>' };
  const parts = [];
  if (isTable()) parts.push(`rows are the first node of a pair, columns the second; white to dark blue is low to high; grey is not scored`);
  else {
    for (const kind of ["arrow", "fill", "number", "badge", "tag"]) {
      const probes = shownAs(kind);
      if (!probes.length) continue;
      const classes = kind === "badge" ? ` (${probes[0].classes.map(escaped).join(", ")})` : "";
      parts.push(`<svg viewBox="0 0 26 14">${icon[kind]}</svg>${probes.map((probe) => escaped(probe.name)).join(", ")}${classes}`);
    }
    if (shownAs("pairs").some((probe) => probe.type === "mask" && probe.stage !== "input") && run.edges) parts.push('<svg viewBox="0 0 26 14"><line class="edge on" x1="0" y1="7" x2="26" y2="7"/></svg>' + escaped(shownAs("pairs")[0].name));
    if (run.label_names.length && run.layouts[0].shape === "cell") parts.push(`in the cells: ${run.label_names.map(escaped).join(" over ")}`);
  }
  if (isTable()) parts.push('<svg viewBox="0 0 26 14"><path class="cross" stroke-width="1.8" d="M7,1 h12 v12 h-12 z"/><path class="notch" d="M19,8 V13 H14 z"/></svg>framed, with a notch (or half filled): differs from the algorithm');
  else parts.push('<svg viewBox="0 0 26 14"><path class="arrow wrong" d="M0,7 H26"/><text class="mark" x="13" y="7" font-size="13">✗</text></svg>dashed, ✗ or ≠: differs from the algorithm');
  $("legend").innerHTML = parts.map((part) => `<span>${part}</span>`).join("");
}

function renderStates() {
  const svg = $("states-drawing");
  if (run.states === null) {
    svg.innerHTML = '<text class="axis" x="150" y="120" text-anchor="middle">these states have no components</text>';
    return;
  }
  const [left, top, width, height] = [26, 8, 266, 216];
  run.stateBounds ??= [0, 1].map((k) => bounds(run.states.flat().map((point) => point[k])));
  const [bx, by] = run.stateBounds;
  const place = ([x, y]) => [left + 10 + ((x - bx[0]) / (bx[1] - bx[0] || 1)) * (width - 20), top + height - 10 - ((y - by[0]) / (by[1] - by[0] || 1)) * (height - 20)];
  const percent = run.shares.map((share) => `${(100 * share).toFixed(0)} %`);
  let drawn = `<rect x="${left}" y="${top}" width="${width}" height="${height}" fill="none" stroke="#d5d5d5"/>` +
    `<text class="axis" x="${left + width / 2}" y="240" text-anchor="middle">component 1, ${percent[0]} of the variance</text>` +
    `<text class="axis" transform="translate(14 ${top + height / 2}) rotate(-90)" text-anchor="middle">component 2, ${percent[1]}</text>`;
  if (state.t === 0 || state.t > run.num_steps) {
    const why = state.t ? "no states after the model's last step" : "no states before the first step";
    svg.innerHTML = drawn + `<text class="axis" x="${left + width / 2}" y="${top + height / 2}" text-anchor="middle">${why}</text>`;
    return;
  }
  const points = run.states[state.t - 1], earlier = run.states[state.t - 2];
  const fill = shownAs("fill")[0], fills = fill ? value(fill, "predicted", state.t) : null;
  if (earlier) points.forEach((point, node) => {
    const [[x, y], [x0, y0]] = [place(point), place(earlier[node])];
    drawn += `<line class="trail" x1="${f(x0)}" y1="${f(y0)}" x2="${f(x)}" y2="${f(y)}"/>`;
  });
  const r = points.length > 32 ? 3.2 : 4.5;
  const named = []; // boxes of names, of which none lies on another
  points.forEach((point, node) => {
    const [x, y] = place(point), width = 6 * run.nodes[node].length + 2;
    const isFree = named.every(([nx, ny, nw]) => x > nx + nw || x + width < nx || Math.abs(y - ny) > 9);
    if (isFree) named.push([x, y, width]);
    const [side, dx] = x > left + width + 220 ? ["end", -r - 1] : ["start", r + 1];
    drawn += `<g data-node="${node}"><circle class="state${fills?.[node] ? " yes" : ""}" cx="${f(x)}" cy="${f(y)}" r="${r}"/><text class="state-name${isFree ? "" : " hidden"}" text-anchor="${side}" x="${f(x + dx)}" y="${f(y - r)}">${escaped(run.nodes[node])}</text></g>`;
  });
  svg.innerHTML = drawn;
}

/** Mark the node, or the pair of nodes, that is pointed at, and write down all of its values. */
function markNear() {
  for (const element of document.querySelectorAll(".near")) element.classList.remove("near");
  const near = state.near;
  if (near === null) {
    $("details").textContent = "Point at a node for all of its values.";
    return;
  }
  const nodes = Array.isArray(near) ? near : [near];
  for (const node of nodes) {
    for (const element of document.querySelectorAll(`[data-node="${node}"]`)) {
      element.classList.add("near");
      element.querySelector(".state")?.classList.add("near");
    }
  }
  if (!Array.isArray(near)) for (const line of document.querySelectorAll(`.edge[data-u="${near}"], .edge[data-v="${near}"]`)) line.classList.add("near");
  const n = run.nodes.length;
  const values = run.tracks.filter((probe) => (Array.isArray(near) ? probe.location === "edge" : probe.location === "node" && probe.type !== "mask_one")).map((probe) => {
    const entry = (side) => { const now = value(probe, side, state.t); return now === null ? null : now[Array.isArray(near) ? near[0] * n + near[1] : near]; };
    const [truth, prediction] = [entry("true"), entry("predicted")];
    const isWrong = differs(probe, truth, prediction);
    const content = `${escaped(probe.name)} ${escaped(text(probe, truth))}`;
    return isWrong ? `<span class="wrong">${content} ≠ ${escaped(text(probe, prediction))}</span>` : `<span>${content}</span>`;
  });
  const weights = !Array.isArray(near) && run.edges && run.tracks.find((probe) => probe.name === "A" && probe.type === "scalar");
  if (weights) {
    const joined = run.nodes.map((name, v) => [name, weights.true[0][near * n + v]]).filter(([, x], v) => x && v !== near);
    values.push(`<span style="white-space:normal">edges to ${joined.map(([name, x]) => `${escaped(name)}${x === 1 ? "" : ` (${number(x)})`}`).join(", ") || "none"}</span>`);
  }
  $("details").innerHTML = `<b>${nodes.map((node) => escaped(run.nodes[node])).join(" → ")}</b>${state.kept ? " (kept)" : ""}: ${values.join("")}`;
}

function render() {
  renderTimeline();
  renderProbes();
  renderMeaning();
  renderPanels();
  renderLegend();
  renderStates();
  markNear();
  const probe = focused();
  $("table-choice").hidden = !(run.edges && channel(probe) === "pairs" && probe.type === "mask");
  $("layout-choice").hidden = run.layouts.length < 2 || isTable();
}

// ------------------------------------------------------------------------------------------------------- actions

function go(t) {
  state.t = Math.min(Math.max(t, 0), last);
  render();
}

function stop() {
  clearInterval(state.timer);
  state.timer = null;
  $("play").textContent = "▶";
}

function playOrStop() {
  if (state.timer !== null) return stop();
  if (state.t === last) go(0);
  $("play").textContent = "❚❚";
  state.timer = setInterval(() => {
    go(state.t + 1);
    if (state.t === last) stop();
  }, PLAY_MS);
}

/** Show a probe, in place of another that is drawn in the same way. */
function add(i) {
  const kind = channel(run.tracks[i]);
  if (kind !== "tag" && kind !== "graph") for (const other of state.shown) if (channel(run.tracks[other]) === kind) state.shown.delete(other);
  state.shown.add(i);
}

function focusOn(i) {
  const wasTable = isTable();
  state.focus = (i + run.tracks.length) % run.tracks.length;
  add(state.focus);
  if (wasTable !== isTable()) wholeDrawing();
  render();
  $("probes").querySelector(".probe.focus").scrollIntoView({ block: "nearest" });
}

function nextDifference(by) {
  const bars = shares(focused()), all = bars.length;
  for (let k = 1; k <= all; k++) {
    const t = (((state.t + by * k) % all) + all) % all;
    if (bars[t] > 0) return go(t);
  }
}

function wholeDrawing() {
  Object.assign(zoom, { scale: 1, x: 0, y: 0 });
}

/** Zoom by a factor and keep one point, given in parts of the panel, where it is. */
function zoomBy(factor, px = 0.5, py = 0.5) {
  const { width, height } = isTable() ? tableSize() : run.layouts[state.layout];
  const scale = Math.min(Math.max(zoom.scale * factor, 1), MAX_ZOOM);
  zoom.x += px * width * (1 / zoom.scale - 1 / scale);
  zoom.y += py * height * (1 / zoom.scale - 1 / scale);
  zoom.scale = scale;
  if (scale === 1) wholeDrawing();
  renderPanels();
}

const KEYS = {
  ArrowRight: () => go(state.t + 1),
  ArrowLeft: () => go(state.t - 1),
  Home: () => go(0),
  End: () => go(last),
  ArrowDown: () => focusOn(state.focus + 1),
  ArrowUp: () => focusOn(state.focus - 1),
  " ": playOrStop,
  n: () => nextDifference(1),
  N: () => nextDifference(-1),
  "+": () => zoomBy(1.5),
  "-": () => zoomBy(1 / 1.5),
  0: () => { wholeDrawing(); renderPanels(); },
};

function onKey(event) {
  const action = KEYS[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.tagName === "SELECT") return;
  if (event.key === " " && (event.target.tagName === "BUTTON" || event.target.type === "checkbox")) return;
  event.preventDefault();
  if (event.key !== " ") stop();
  action();
}

function near(event) {
  const element = event.target.closest?.("[data-node], [data-i]");
  if (!element) return null;
  return element.dataset.node === undefined ? [Number(element.dataset.i), Number(element.dataset.j)] : Number(element.dataset.node);
}

function listenToPanels() {
  let drag = null;
  for (const panel of document.querySelectorAll(".panel, #states-drawing")) {
    panel.addEventListener("mousemove", (event) => {
      if (state.kept || drag) return;
      const found = near(event);
      if (String(found) !== String(state.near)) { state.near = found; markNear(); }
    });
    panel.addEventListener("click", (event) => {
      state.near = near(event);
      state.kept = state.near !== null;
      markNear();
    });
  }
  for (const panel of document.querySelectorAll(".panel")) {
    panel.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = panel.getBoundingClientRect();
      zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    }, { passive: false });
    panel.addEventListener("pointerdown", (event) => { if (zoom.scale > 1) drag = { panel, x: event.clientX, y: event.clientY }; });
    panel.addEventListener("dblclick", () => { wholeDrawing(); renderPanels(); });
  }
  window.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const { width } = isTable() ? tableSize() : run.layouts[state.layout];
    const unit = width / zoom.scale / drag.panel.getBoundingClientRect().width;
    zoom.x -= (event.clientX - drag.x) * unit;
    zoom.y -= (event.clientY - drag.y) * unit;
    Object.assign(drag, { x: event.clientX, y: event.clientY });
    renderPanels();
  });
  window.addEventListener("pointerup", () => { drag = null; });
}

/** The rows of the list of probes, by stage. */
function listProbes() {
  let stage = null;
  run.tracks.forEach((probe, i) => {
    if (probe.stage !== stage) {
      stage = probe.stage;
      const title = document.createElement("h2");
      title.textContent = { input: "inputs: given", hint: "hints: observed at every step", output: "outputs: the answer after the last step" }[stage];
      $("probes").append(title);
    }
    const row = document.createElement("div");
    row.className = "probe";
    row.setAttribute("role", "option");
    row.dataset.index = i;
    row.dataset.probe = probe.name;
    row.title = probe.meaning;
    row.innerHTML = `<input type="checkbox" aria-label="draw ${escaped(probe.name)}" tabindex="-1"><span>${escaped(probe.name)}<span class="kind">${probe.location === "node" && probe.type === "mask_one" ? "one node" : `${probe.location} ${probe.type.replace("_", " ")}`}</span></span><span class="count"></span>`;
    row.addEventListener("click", () => focusOn(i));
    row.querySelector("input").addEventListener("click", (event) => {
      event.stopPropagation();
      if (event.target.checked) add(i);
      else state.shown.delete(i);
      render();
    });
    $("probes").append(row);
  });
}

/** What is shown at first: the hint that becomes the first output, or the first hint, and beside it what has room. */
function chooseProbes() {
  const index = (name) => run.tracks.findIndex((probe) => probe.name === name);
  const output = run.tracks.findIndex((probe) => probe.stage === "output");
  const hint = output < 0 ? -1 : index(`${run.tracks[output].name}_h`);
  for (let i = run.tracks.length - 1; i >= 0; i--) {
    const probe = run.tracks[i], kind = channel(probe);
    if (probe.stage === "hint" && kind !== "graph" && !(kind === "number" && run.nodes.length > 32)) add(i);
    if (probe.stage === "input" && kind === "tag") add(i);
  }
  const first = run.tracks.findIndex((probe) => probe.stage === "hint" && probe.location === "node");
  state.focus = [hint, first, output, 0].find((i) => i >= 0);
  add(state.focus);
}

async function start() {
  run = await unpacked();
  last = Math.max(run.num_steps, run.num_true_steps);
  document.title = `${run.algorithm}, ${run.nodes.length} nodes`;
  $("title").textContent = run.algorithm;
  const score = run.score.score;
  $("summary").textContent = `${run.nodes.length} nodes · ${steps(run.num_true_steps)}${run.num_steps === run.num_true_steps ? "" : `, the model takes ${run.num_steps}`} · score of the model's answer ${score === null ? "none" : score.toFixed(2)}`;
  $("step").max = last;
  run.layouts.forEach((layout, i) => $("layout").append(new Option(`in ${layout.name === "circle" ? "a circle" : layout.name}`, i)));
  listProbes();
  chooseProbes();
  $("step").addEventListener("input", () => { stop(); go(Number($("step").value)); });
  $("strip").addEventListener("click", (event) => {
    const box = $("strip").getBoundingClientRect();
    go(Math.floor(((event.clientX - box.left) / box.width) * (last + 1)));
  });
  $("play").addEventListener("click", playOrStop);
  $("layout").addEventListener("change", () => { state.layout = Number($("layout").value); wholeDrawing(); render(); });
  $("as-table").addEventListener("change", () => { state.asTable = $("as-table").checked; wholeDrawing(); render(); });
  $("zoom-in").addEventListener("click", () => zoomBy(1.5));
  $("zoom-out").addEventListener("click", () => zoomBy(1 / 1.5));
  $("zoom-reset").addEventListener("click", () => { wholeDrawing(); renderPanels(); });
  window.addEventListener("keydown", onKey);
  listenToPanels();
  const asked = new URLSearchParams(location.hash.slice(1)); // such as #step=3&probe=pi_h
  if (asked.has("step")) state.t = Math.min(Math.max(Number(asked.get("step")) || 0, 0), last);
  const named = run.tracks.findIndex((probe) => probe.name === asked.get("probe"));
  if (named >= 0) { state.focus = named; add(named); }
  render();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  document.body.insertAdjacentHTML("afterbegin", "<p><b>This page could not be drawn; it needs a browser of 2023 or later.</b></p>");
  throw error;
});
