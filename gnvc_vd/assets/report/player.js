/* ---- player ---- */

const sides = ["left", "right"];
const video = { left: $("video-left"), right: $("video-right"), source: document.createElement("video") };
const urls = new Map();
let frameNow = 0, playing = false, zoom = 1, shift = { x: 0, y: 0 }, loads = 0;
let lens = null; // the middle of what the loupe shows, in pixels of the picture

const clip = () => data.clips[$("sequence").value];
const levelOf = (codec) => (codec === "source" ? null : data.shown[$("sequence").value][codec]?.[$("rate").value] ?? null);
const apart = () => sides.every((side) => $(side).value !== "source"); // the source is on neither side
const running = () => (apart() ? [video.left, video.right, video.source] : [video.left, video.right]);

function address(codec) {
  const sequence = $("sequence").value;
  const key = codec === "source" ? `source/${sequence}` : `${codec}/${sequence}/${levelOf(codec)}`;
  if (data.files) return data.files[key];
  if (!urls.has(key)) {
    const bytes = Uint8Array.from(atob(data.videos[key]), (letter) => letter.charCodeAt(0));
    urls.set(key, URL.createObjectURL(new Blob([bytes], { type: "video/mp4" })));
  }
  return urls.get(key);
}

const rowOf = (codec) => data.rows.find((row) =>
  row.codec === codec && row.sequence === $("sequence").value && row.level === levelOf(codec));

function caption(codec) {
  const rate = codec === "source" ? null : rowOf(codec).bpp;
  return rate === null ? named(codec) : `${named(codec)} · ${digits(rate)} bpp`;
}

function offered() {
  const shown = data.shown[$("sequence").value];
  return ["source", ...Object.keys(shown).filter((codec) => $("rate").value in shown[codec])];
}

function fillSides(left, right) {
  const names = offered(), pairs = names.map((name) => [name, caption(name)]);
  for (const side of sides) choices($(side), pairs);
  $("left").value = names.includes(left) ? left : "source";
  $("right").value = names.includes(right) ? right : names[names.length > 1 ? 1 : 0];
  drawStrips();
  return load();
}

async function load() {
  const turn = (loads += 1), was = playing, { width, height, frames } = clip();
  pause();
  document.documentElement.style.setProperty("--shape", `${width} / ${height}`);
  document.documentElement.style.setProperty("--ratio", width / height);
  $("frame").max = frames - 1;
  $("row").max = height - 1;
  frameNow = Math.min(frameNow, frames - 1);
  await Promise.all([...sides.map((side) => opened(video[side], address($(side).value))), apart() && opened(video.source, address("source"))]);
  if (turn !== loads) return;
  for (const side of sides) {
    $(`pane-${side}`).querySelector(".tag").textContent = caption($(side).value);
    video[side].setAttribute("aria-label", `${side}: ${caption($(side).value)}`);
  }
  compareFigures();
  makeLoupe();
  await go(frameNow);
  if (turn !== loads) return;
  if (lens === null) lens = whereTheyDiffer();
  place();
  if (was) await play();
}

function opened(player, url) {
  if (player.src === new URL(url, location.href).href && player.readyState >= 2) return Promise.resolve();
  return new Promise((resolve, reject) => {
    player.onloadeddata = resolve;
    player.onerror = () => reject(new Error(`a video cannot be played: ${player.error && player.error.message}`));
    player.muted = true;
    player.src = url;
  });
}

function seeked(player, time) {
  if (Math.abs(player.currentTime - time) < 1e-4 && !player.seeking) return Promise.resolve();
  return new Promise((resolve) => {
    player.addEventListener("seeked", resolve, { once: true });
    player.currentTime = time;
  });
}

const timeOf = (number) => (number + 0.5) / clip().rate;
const numberAt = (time) => Math.min(clip().frames - 1, Math.floor(time * clip().rate + 1e-3));

async function go(number) {
  frameNow = Math.max(0, Math.min(clip().frames - 1, number));
  counted();
  await Promise.all(running().map((one) => seeked(one, timeOf(frameNow))));
  drawLoupe();
}

function counted() {
  $("frame").value = frameNow;
  $("count").textContent = `${frameNow + 1} / ${clip().frames}`;
}

function pause() {
  playing = false;
  for (const one of Object.values(video)) one.pause();
  $("play").textContent = "play";
}

async function play() {
  if (frameNow >= clip().frames - 1) await go(0);
  playing = true;
  $("play").textContent = "pause";
  for (const one of running()) one.playbackRate = Number($("speed").value);
  try {
    await Promise.all(running().map((one) => one.play()));
  } catch { // paused meanwhile, or a browser that does not play unasked
    return pause();
  }
  requestAnimationFrame(follow);
}

/* The left video keeps the time. The others are nudged where they stray, and set right where they stray by a frame. */
async function follow() {
  if (!playing) return;
  if (running().some((one) => one.ended)) {
    for (const one of running()) one.pause();
    await go(0);
    if (playing) await play();
    return;
  }
  const now = video.left.currentTime, speed = Number($("speed").value);
  for (const one of running().slice(1)) {
    const late = now - one.currentTime;
    if (Math.abs(late) > 1.2 / clip().rate && !one.seeking) one.currentTime = now;
    else one.playbackRate = speed * (1 + Math.max(-0.1, Math.min(0.1, 3 * late)));
  }
  frameNow = numberAt(now);
  counted();
  drawLoupe();
  requestAnimationFrame(follow);
}

function step(by) {
  const from = playing ? numberAt(video.left.currentTime) : frameNow;
  pause();
  return go(from + by);
}

/* ---- figures of both sides ---- */

function compareFigures() {
  const box = $("figures"), rows = sides.map((side) => ($(side).value === "source" ? null : rowOf($(side).value)));
  box.replaceChildren();
  const table = element("table", element("div", box, { class: "scroll" })), head = element("tr", element("thead", table));
  for (const text of ["", ...sides.map((side) => named($(side).value))]) element("th", head, { scope: "col" }, text);
  const body = element("tbody", table);
  const line = (text, values, best = null) => {
    if (values.every((value) => value == null)) return;
    const tr = element("tr", body);
    element("th", tr, { scope: "row" }, text);
    values.forEach((value, i) => element("td", tr, i === best ? { class: "better" } : {}, digits(value)));
  };
  line("bits per pixel", rows.map((row) => row && row.bpp));
  line("kbit/s", rows.map((row) => row && row.kbps));
  for (const { key, label, lower } of data.metrics) {
    const values = rows.map((row) => row && row.figures[key]), [one, other] = values;
    const told = one != null && other != null && digits(one) !== digits(other);
    line(label, values, told ? Number(lower ? other < one : other > one) : null);
  }
}

/* ---- loupe: one square of every video, larger ---- */

const TILE = 128; // pixels of the page
function lensSize() { // in pixels of the picture, at a whole enlargement
  const { width, height } = clip(), scale = $("pane-left").getBoundingClientRect().width / width;
  const times = Math.max(2, Math.ceil(2 * scale));
  return Math.min(Math.max(16, Math.round(TILE / times)), width, height);
}

function makeLoupe() {
  const shown = apart() ? ["source", "left", "right"] : sides;
  $("loupe").replaceChildren();
  for (const name of shown) {
    const text = name === "source" ? named("source") : caption($(name).value), box = element("figure", $("loupe"));
    element("canvas", box, { "data-of": name, role: "img", "aria-label": `loupe, ${text}` });
    element("figcaption", box, {}, text);
  }
}

function moveLens(x, y) {
  lens = { x, y };
  placeLens();
}

function placeLens() {
  if (lens === null) return;
  const { width, height } = clip(), size = lensSize(), scale = ($("pane-left").getBoundingClientRect().width / width) * zoom;
  const within = (place, length) => Math.max(size / 2, Math.min(length - size / 2, place));
  lens = { x: within(lens.x, width), y: within(lens.y, height) };
  Object.assign($("lens").style, {
    left: `${shift.x + (lens.x - size / 2) * scale}px`, top: `${shift.y + (lens.y - size / 2) * scale}px`,
    width: `${size * scale}px`, height: `${size * scale}px`,
  });
  $("loupe-scale").textContent = `Loupe: ${size} × ${size} pixels of the picture. It follows the pointer.`;
  drawLoupe();
}

function drawLoupe() {
  if (lens === null) return;
  const size = lensSize(), x = Math.round(lens.x - size / 2), y = Math.round(lens.y - size / 2);
  for (const canvas of $("loupe").querySelectorAll("canvas")) {
    if (canvas.width !== size) canvas.width = canvas.height = size;
    canvas.getContext("2d").drawImage(video[canvas.dataset.of], x, y, size, size, 0, 0, size, size);
  }
}

/* The square in which the two videos differ most, in what they show now. */
function whereTheyDiffer() {
  const { width, height } = clip(), size = lensSize(), middle = { x: width / 2, y: height / 2 };
  const [one, other] = sides.map((side) => {
    const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
    context.drawImage(video[side], 0, 0);
    try {
      return context.getImageData(0, 0, width, height).data;
    } catch { // a file beside the page: browsers let nobody read its pixels
      return null;
    }
  });
  if (!one || !other) return middle;
  let best = { sum: -1 };
  for (let top = 0; top + size <= height; top += size) {
    for (let left = 0; left + size <= width; left += size) {
      let sum = 0;
      for (let y = top; y < top + size; y += 1) {
        for (let at = 4 * (y * width + left); at < 4 * (y * width + left + size); at += 1) sum += Math.abs(one[at] - other[at]);
      }
      if (sum > best.sum) best = { sum, x: left + size / 2, y: top + size / 2 };
    }
  }
  return best.sum > 0 ? { x: best.x, y: best.y } : middle;
}

/* ---- zoom: one for both panes ---- */

function place() {
  const pane = $("pane-left").getBoundingClientRect();
  shift.x = Math.min(0, Math.max(pane.width * (1 - zoom), shift.x));
  shift.y = Math.min(0, Math.max(pane.height * (1 - zoom), shift.y));
  for (const side of sides) video[side].style.transform = `translate(${shift.x}px, ${shift.y}px) scale(${zoom})`;
  mark();
  placeLens();
}

/* Where in a pane the pointer is, whichever pane it is over. */
function inPane(event) {
  const box = $("pane-left").getBoundingClientRect(), other = $("pane-right").getBoundingClientRect();
  const beside = $("stage").className === "beside" && event.clientX >= other.left;
  return { x: event.clientX - (beside ? other.left : box.left), y: event.clientY - box.top, width: box.width, height: box.height };
}

function inPicture(event) {
  const at = inPane(event), { width, height } = clip();
  return { x: ((at.x - shift.x) / zoom / at.width) * width, y: ((at.y - shift.y) / zoom / at.height) * height };
}

function zoomAt(at, factor) {
  const before = zoom;
  zoom = Math.min(16, Math.max(1, zoom * factor));
  shift = { x: at.x - ((at.x - shift.x) * zoom) / before, y: at.y - ((at.y - shift.y) * zoom) / before };
  place();
}

function zoomMiddle(factor) {
  const pane = $("pane-left").getBoundingClientRect();
  zoomAt({ x: pane.width / 2, y: pane.height / 2 }, factor);
}

function whole() {
  zoom = 1;
  shift = { x: 0, y: 0 };
  place();
}

function mark() {
  const pane = $("pane-left").getBoundingClientRect(), height = clip().height;
  $("row-mark").style.top = `${shift.y + ((Number($("row").value) + 0.5) / height) * pane.height * zoom}px`;
  $("row-number").textContent = $("row").value;
}

/* ---- hands ---- */

function swap() {
  [$("left").value, $("right").value] = [$("right").value, $("left").value];
  return load();
}

function pointers() {
  let held = null;
  const stage = $("stage");
  stage.onpointerdown = (event) => {
    held = { x: event.clientX - shift.x, y: event.clientY - shift.y };
    const at = inPicture(event);
    moveLens(at.x, at.y);
  };
  stage.onpointermove = (event) => {
    if (held !== null && zoom > 1) return;
    const at = inPicture(event);
    moveLens(at.x, at.y);
  };
  window.addEventListener("pointermove", (event) => {
    if (held === null || zoom === 1) return;
    shift = { x: event.clientX - held.x, y: event.clientY - held.y };
    place();
  });
  for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => { held = null; });
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    zoomAt(inPane(event), Math.exp(-event.deltaY / 400));
  }, { passive: false });
  stage.ondblclick = (event) => {
    $("row").value = Math.max(0, Math.min(clip().height - 1, Math.floor(inPicture(event).y)));
    mark();
    drawStrips();
  };
}

function keys() {
  $("lens").onkeydown = (event) => {
    const by = event.shiftKey ? 1 : 8;
    const moves = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[event.key];
    if (!moves) return;
    event.preventDefault();
    event.stopPropagation();
    moveLens(lens.x + moves[0], lens.y + moves[1]);
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = ["SELECT", "INPUT"].includes(event.target.tagName) || event.target.isContentEditable;
    if (typing || (["BUTTON", "SUMMARY", "A"].includes(event.target.tagName) && [" ", "Enter"].includes(event.key))) return;
    const known = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1), " ": () => $("play").click(), x: swap,
      "+": () => zoomMiddle(1.5), "=": () => zoomMiddle(1.5), "-": () => zoomMiddle(1 / 1.5), 0: whole,
    };
    if (!known[event.key]) return;
    event.preventDefault();
    known[event.key]();
  });
}

async function startPlayer() {
  const { sequence, rate, left, right } = data.opening;
  choices($("sequence"), Object.keys(data.clips).map((name) => [name, name]));
  choices($("rate"), data.rates.map((text, i) => [i, text]));
  $("of-sequence").hidden = Object.keys(data.clips).length < 2;
  $("of-rate").hidden = data.rates.length < 2;
  $("sequence").value = sequence;
  $("rate").value = rate;
  $("row").max = clip().height - 1;
  $("row").value = Math.floor(clip().height / 2);
  $("sequence").onchange = $("rate").onchange = () => fillSides($("left").value, $("right").value);
  $("left").onchange = $("right").onchange = load;
  $("view").onchange = () => { $("stage").className = $("view").value; place(); };
  $("wipe").oninput = () => $("stage").style.setProperty("--wipe", `${$("wipe").value / 10}%`);
  $("play").onclick = () => (playing ? step(0) : play());
  $("back").onclick = () => step(-1);
  $("forward").onclick = () => step(1);
  $("frame").oninput = () => { pause(); go(Number($("frame").value)); };
  $("swap").onclick = swap;
  $("reset").onclick = whole;
  $("row").oninput = mark;
  $("row").onchange = drawStrips;
  pointers();
  keys();
  new ResizeObserver(place).observe($("stage"));
  await fillSides(left, right);
  if (!still) await play();
}
