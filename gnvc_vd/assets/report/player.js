/* ---- player ---- */

const sides = ["left", "right"];
const video = { left: $("video-left"), right: $("video-right") };
const urls = new Map();
let frameNow = 0, playing = false, zoom = 1, shift = { x: 0, y: 0 };

const clip = () => data.clips[$("sequence").value];
const shownRow = (codec) => (codec === "source" ? null : data.shown[$("sequence").value][codec]?.[$("rate").value] ?? null);

function address(codec) {
  const sequence = $("sequence").value, row = shownRow(codec);
  const key = codec === "source" ? `source/${sequence}` : `${codec}/${sequence}/${row}`;
  if (!urls.has(key)) {
    const bytes = Uint8Array.from(atob(data.videos[key]), (letter) => letter.charCodeAt(0));
    urls.set(key, URL.createObjectURL(new Blob([bytes], { type: "video/mp4" })));
  }
  return urls.get(key);
}

const rowOf = (codec) => data.rows.find((row) =>
  row.codec === codec && row.sequence === $("sequence").value && row.level === shownRow(codec));

function caption(codec) {
  return codec === "source" ? "source" : `${named(codec)} · ${bpp(rowOf(codec).bpp)} bpp`;
}

function offered() {
  const sequence = $("sequence").value, rate = $("rate").value;
  return ["source", ...Object.keys(data.shown[sequence]).filter((codec) => rate in data.shown[sequence][codec])];
}

function fillSides(left, right) {
  const names = offered(), pairs = names.map((name) => [name, caption(name)]);
  for (const side of sides) choices($(side), pairs);
  $("left").value = names.includes(left) ? left : "source";
  $("right").value = names.includes(right) ? right : names[names.length > 1 ? 1 : 0];
  load();
}

async function load() {
  pause();
  const { width, height, frames } = clip();
  $("stage").parentElement.style.setProperty("--shape", `${width} / ${height}`);
  $("stage").parentElement.style.setProperty("--ratio", width / height);
  $("frame").max = frames - 1;
  $("row").max = height - 1;
  frameNow = Math.min(frameNow, frames - 1);
  await Promise.all(sides.map((side) => opened(video[side], address($(side).value))));
  for (const side of sides) $(`pane-${side}`).querySelector(".tag").textContent = caption($(side).value);
  compareFigures();
  mark();
  await go(frameNow);
}

function opened(element_, url) {
  if (element_.src === url && element_.readyState >= 2) return Promise.resolve();
  return new Promise((resolve, reject) => {
    element_.onloadeddata = resolve;
    element_.onerror = () => reject(new Error(`a video cannot be played: ${element_.error && element_.error.message}`));
    element_.src = url;
  });
}

function seeked(element_, time) {
  if (Math.abs(element_.currentTime - time) < 1e-4 && !element_.seeking) return Promise.resolve();
  return new Promise((resolve) => {
    element_.addEventListener("seeked", resolve, { once: true });
    element_.currentTime = time;
  });
}

const timeOf = (number) => (number + 0.5) / clip().rate;
const numberAt = (time) => Math.min(clip().frames - 1, Math.floor(time * clip().rate + 1e-3));

async function go(number) {
  frameNow = Math.max(0, Math.min(clip().frames - 1, number));
  counted();
  await Promise.all(sides.map((side) => seeked(video[side], timeOf(frameNow))));
}

function counted() {
  $("frame").value = frameNow;
  $("count").textContent = `${frameNow + 1} / ${clip().frames}`;
}

function pause() {
  playing = false;
  for (const side of sides) video[side].pause();
  $("play").textContent = "play";
}

async function play() {
  if (frameNow >= clip().frames - 1) await go(0);
  playing = true;
  $("play").textContent = "pause";
  for (const side of sides) video[side].playbackRate = Number($("speed").value);
  await Promise.all(sides.map((side) => video[side].play()));
  requestAnimationFrame(follow);
}

/* The left video keeps the time; the right one is set right where it strays by a frame. */
async function follow() {
  if (!playing) return;
  if (video.left.ended || video.right.ended) {
    for (const side of sides) video[side].pause();
    await go(0);
    if (playing) await play();
    return;
  }
  if (Math.abs(video.left.currentTime - video.right.currentTime) > 1 / clip().rate) video.right.currentTime = video.left.currentTime;
  frameNow = numberAt(video.left.currentTime);
  counted();
  requestAnimationFrame(follow);
}

function step(by) {
  const from = playing ? numberAt(video.left.currentTime) : frameNow;
  pause();
  return go(from + by);
}

function compareFigures() {
  const box = $("figures");
  box.replaceChildren();
  const table = element("table", element("div", box, { class: "scroll" })), head = element("tr", table);
  for (const text of ["", "bpp", "kbit/s", ...data.metrics.map((metric) => metric.label)]) element("th", head, {}, text);
  for (const side of sides) {
    const codec = $(side).value, line = element("tr", table);
    element("td", line, {}, `${side}: ${named(codec)}`);
    const row = codec === "source" ? null : rowOf(codec);
    element("td", line, {}, row ? row.bpp.toFixed(5) : "–");
    element("td", line, {}, row ? row.kbps.toFixed(1) : "–");
    for (const { key } of data.metrics) element("td", line, {}, row ? figure(key, row.figures[key]) : "–");
  }
}

/* ---- zoom: one for both panes ---- */

function place() {
  const pane = $("pane-left").getBoundingClientRect();
  shift.x = Math.min(0, Math.max(pane.width * (1 - zoom), shift.x));
  shift.y = Math.min(0, Math.max(pane.height * (1 - zoom), shift.y));
  for (const side of sides) video[side].style.transform = `translate(${shift.x}px, ${shift.y}px) scale(${zoom})`;
  mark();
}

/* Where in a pane the pointer is, whichever pane it is over. */
function inPane(event) {
  const box = $("pane-left").getBoundingClientRect(), other = $("pane-right").getBoundingClientRect();
  const beside = $("stage").className === "beside" && event.clientX >= other.left;
  return { x: event.clientX - (beside ? other.left : box.left), y: event.clientY - box.top, height: box.height };
}

function zoomAt(event) {
  event.preventDefault();
  const at = inPane(event), before = zoom;
  zoom = Math.min(16, Math.max(1, zoom * Math.exp(-event.deltaY / 400)));
  shift = { x: at.x - ((at.x - shift.x) * zoom) / before, y: at.y - ((at.y - shift.y) * zoom) / before };
  place();
}

function mark() {
  const pane = $("pane-left").getBoundingClientRect(), height = clip().height;
  $("row-mark").style.top = `${shift.y + ((Number($("row").value) + 0.5) / height) * pane.height * zoom}px`;
  $("row-number").textContent = $("row").value;
}
