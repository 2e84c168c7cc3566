/* ---- curves ---- */

const hidden = new Set();
let drawn = []; // the points on the chart, by codec and rate: {x, y, row, circle, group}
let pointed = null; // the one whose figures are shown

const metricNow = () => document.querySelector("#measures :checked").value;
const rowsOf = (sequence) => data.rows.filter((row) =>
  (sequence === null ? row.sequence !== "mean" : row.sequence === sequence) && !hidden.has(row.codec) && row.figures[metricNow()] != null);

/* Where a row's point lies in a box of pixels, given the rows that must all fit. */
function scales(rows, box) {
  const rates = rows.map((row) => Math.log10(row.bpp)), values = rows.map((row) => row.figures[metricNow()]);
  const spread = Math.max(...values) - Math.min(...values) || 1;
  const low = Math.min(...rates) - 0.05, high = Math.max(...rates) + 0.05;
  const bottom = Math.min(...values) - 0.06 * spread, top = Math.max(...values) + 0.06 * spread;
  return {
    low, high, bottom, top,
    x: (rate) => box.left + ((Math.log10(rate) - low) / (high - low)) * (box.right - box.left),
    y: (value) => box.bottom - ((value - bottom) / (top - bottom)) * (box.bottom - box.top),
  };
}

function axes(svg, box, scale, small) {
  const metric = metrics.get(metricNow());
  const steps = scale.high - scale.low > 1 ? [1, 2, 5] : [1, 2, 3, 4, 5, 6, 8];
  let last = -Infinity;
  for (let decade = Math.floor(scale.low); decade <= Math.ceil(scale.high); decade += 1) {
    for (const step of steps) {
      const rate = step * 10 ** decade, x = scale.x(rate);
      if (Math.log10(rate) < scale.low || Math.log10(rate) > scale.high) continue;
      element("line", svg, { class: "grid", x1: x, x2: x, y1: box.top, y2: box.bottom });
      if (x - last < (small ? 46 : 52) || x > box.right - 8) continue;
      element("text", svg, { x, y: box.bottom + 17, "text-anchor": "middle" }, `${+rate.toPrecision(1)}`);
      last = x;
    }
  }
  const rough = (scale.top - scale.bottom) / (small ? 5 : 6), unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * unit).find((part) => part >= rough);
  for (let value = Math.ceil(scale.bottom / step) * step; value <= scale.top; value += step) {
    const y = scale.y(value);
    element("line", svg, { class: "grid", x1: box.left, x2: box.right, y1: y, y2: y });
    const text = step < 1 ? value.toFixed(Math.ceil(-Math.log10(step) - 1e-9)) : `${Math.round(value)}`;
    element("text", svg, { x: box.left - 7, y: y + 4, "text-anchor": "end" }, text.replace("-", "−"));
  }
  element("line", svg, { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom });
  element("line", svg, { class: "axis", x1: box.left, x2: box.left, y1: box.top, y2: box.bottom });
  const better = metric.lower ? "lower is better" : "higher is better";
  const quality = [metric.name, metric.unit].filter(Boolean).join(", ");
  element("text", svg, { class: "label", x: 2, y: 13 }, small ? metric.unit || metric.name : `${quality} (${better})`);
  const rate = small ? "bits per pixel" : "bits per pixel of whole files, logarithmic";
  element("text", svg, { class: "label", x: box.right, y: box.bottom + 36, "text-anchor": "end" }, rate);
}

/* The curves of some rows in an SVG of its own width; the points drawn. */
function draw(svg, rows, fitting, height, small) {
  const width = Math.max(200, Math.floor(svg.parentElement.clientWidth)), made = [];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.replaceChildren();
  if (!rows.length) {
    element("text", svg, { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no figures of this measure here");
    return made;
  }
  const box = { left: small ? 38 : 46, right: width - 10, top: 22, bottom: height - 44 }, scale = scales(fitting, box);
  axes(svg, box, scale, small);
  const ours = (codec) => Number(codec.kind === "ours");
  for (const codec of [...data.codecs].reverse().sort((a, b) => ours(a) - ours(b))) { // on top lies our first
    const own = rows.filter((row) => row.codec === codec.name).sort((a, b) => a.bpp - b.bpp);
    if (!own.length) continue;
    const group = element("g", svg, { class: `of ${codec.kind}`, style: `--of: ${codec.colour}` });
    const places = own.map((row) => ({ x: scale.x(row.bpp), y: scale.y(row.figures[metricNow()]), row, group }));
    const path = places.map(({ x, y }, i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
    element("path", group, { d: path, class: "curve" });
    for (const one of places) made.push({ ...one, circle: element("circle", group, { cx: one.x, cy: one.y, r: small ? 2.6 : 4.2 }) });
  }
  return made;
}

function described(sequence) {
  const shown = data.codecs.filter((codec) => rowsOf(sequence).some((row) => row.codec === codec.name));
  return `${metrics.get(metricNow()).label} over bits per pixel, ${sequence}: ${shown.map((codec) => codec.label).join("; ")}`;
}

function drawCurves() {
  const sequence = $("curve-sequence").value, rows = rowsOf(sequence);
  point(null);
  drawn = draw($("curves"), rows, rows, innerWidth < 700 ? 330 : 420, false);
  $("curves").setAttribute("aria-label", described(sequence));
  const all = rowsOf(null);
  for (const button of $("multiples").children) {
    const own = button.dataset.sequence, svg = button.querySelector("svg");
    draw(svg, rowsOf(own), all, 220, true);
    svg.setAttribute("aria-label", described(own));
    button.setAttribute("aria-pressed", String(own === sequence));
  }
}

/* ---- the figures of a point ---- */

function point(found) {
  const tip = $("tip");
  pointed = found;
  for (const one of drawn) {
    one.circle.classList.toggle("near", one === found);
    one.group.classList.toggle("faint", found !== null && one.group !== found.group);
  }
  tip.hidden = found === null;
  if (found === null) return;
  const row = found.row;
  const lines = [`${named(row.codec)}${row.level === null ? "" : `, level ${row.level}`}`, `${digits(row.bpp)} bpp`];
  if (row.bytes) lines.push(`${row.bytes} bytes, ${digits(row.kbps)} kbit/s`);
  for (const { key, label } of data.metrics) if (row.figures[key] != null) lines.push(`${label}  ${digits(row.figures[key])}`);
  if (row.note) lines.push(row.note);
  tip.textContent = lines.join("\n");
  const width = $("plot").clientWidth, over = found.x > width / 2 ? found.x - tip.offsetWidth - 14 : found.x + 14;
  tip.style.left = `${Math.max(0, Math.min(over, width - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, Math.min(found.y, $("plot").clientHeight - tip.offsetHeight - 4))}px`;
}

function nearest(event) {
  const box = $("curves").getBoundingClientRect();
  const away = (one) => Math.hypot(one.x - event.clientX + box.left, one.y - event.clientY + box.top);
  return drawn.filter((one) => away(one) < 26).sort((a, b) => away(a) - away(b))[0] ?? null;
}

/* Along a curve, or to the point of the next curve at about this rate. */
function walk(key) {
  if (!drawn.length) return;
  if (pointed === null) return point(drawn.find((one) => one.row.codec === data.opening.left) ?? drawn[0]);
  const groups = [...new Set(drawn.map((one) => one.group))], own = drawn.filter((one) => one.group === pointed.group);
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[key];
  if (key === "ArrowLeft" || key === "ArrowRight") return point(own[own.indexOf(pointed) + by] ?? pointed);
  const group = groups[(groups.indexOf(pointed.group) + by + groups.length) % groups.length], at = pointed.x;
  point(drawn.filter((one) => one.group === group).sort((a, b) => Math.abs(a.x - at) - Math.abs(b.x - at))[0]);
}

/* The point in the player, at the rate offered there that is nearest to its own. */
function playPoint(row) {
  const sequence = row.sequence in data.clips ? row.sequence : $("sequence").value, levels = data.shown[sequence][row.codec];
  if (!levels) return;
  const rate = (level) => data.rows.find((one) => one.codec === row.codec && one.sequence === sequence && one.level === level).bpp;
  const far = (level) => Math.abs(Math.log(rate(level) / row.bpp));
  $("sequence").value = sequence;
  $("rate").value = Object.entries(levels).sort((a, b) => far(a[1]) - far(b[1]))[0][0];
  fillSides($("left").value === row.codec ? "source" : $("left").value, row.codec);
  $("stage").scrollIntoView({ block: "center" });
}

function startCurves() {
  const shown = data.metrics.filter((one) => data.rows.some((row) => row.figures[one.key] != null));
  for (const { key, name, label } of shown) {
    const box = element("label", $("measures"), { title: label }, name);
    element("input", box, { type: "radio", name: "measure", value: key, ...(key === data.metric ? { checked: "" } : {}) });
  }
  const several = data.sequences.filter((name) => name !== "mean");
  choices($("curve-sequence"), data.sequences.map((name) => [name, name === "mean" ? `mean of ${several.length}` : name]));
  for (const codec of data.codecs) {
    const button = element("button", $("legend"), { "aria-pressed": "true", class: `of ${codec.kind}`, style: `--of: ${codec.colour}` }, codec.label);
    button.onclick = () => {
      hidden.has(codec.name) ? hidden.delete(codec.name) : hidden.add(codec.name);
      button.setAttribute("aria-pressed", String(!hidden.has(codec.name)));
      drawCurves();
    };
  }
  $("spread").hidden = several.length < 2;
  for (const sequence of several.length < 2 ? [] : several) {
    const button = element("button", $("multiples"), { "data-sequence": sequence, title: "show it large; again for the mean" });
    element("span", button, {}, sequence);
    element("svg", button, { role: "img" });
    button.onclick = () => {
      $("curve-sequence").value = $("curve-sequence").value === sequence ? "mean" : sequence;
      drawCurves();
    };
  }
  $("measures").onchange = $("curve-sequence").onchange = drawCurves;
  $("curves").onmousemove = (event) => point(nearest(event));
  $("curves").onmouseleave = () => point(null);
  $("curves").onblur = () => point(null);
  $("curves").onclick = (event) => {
    const found = nearest(event);
    point(found);
    if (found) playPoint(found.row);
  };
  $("curves").onkeydown = (event) => {
    if (event.key.startsWith("Arrow")) walk(event.key);
    else if (event.key === "Enter" && pointed) playPoint(pointed.row);
    else if (event.key === "Escape") point(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  new ResizeObserver(drawCurves).observe($("plot"));
}
