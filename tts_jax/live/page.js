// The setting lives in the fragment of the address; the server computes it, and the stage shows what has come.

import { RUNS, Stage, shown } from "./draw.js";
import { dragTarget } from "./drag.js";
import { fields, read, write } from "./setting.js";

const SECONDS = 8; // Of the animation from the start to the end.
const find = (id) => document.getElementById(id);
const stage = new Stage(find("functions"), find("positions"), find("risks"));
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const slider = find("time");

let picture = null; // What is shown: the setting, as the server told it, and the runs that have come.
let request = null; // The newest; an older one shows nothing any more.
let compiling = false; // For the first time with so many neurons.
let playing = 0; // The frame that is waited for, or 0.
let place = 0; // In saves, between them too while it plays.

function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function say(text, state) {
  find("state").textContent = text;
  document.body.dataset.state = state;
}

function refuse(text) {
  find("error").textContent = text;
  find("error").hidden = false;
  say("", "refused");
}

async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines.map((line) => JSON.parse(line));
  }
}

async function ask() {
  request?.abort();
  const mine = (request = new AbortController());
  find("error").hidden = true;
  compiling = false;
  say("Waiting for the answer.", "asking");
  performance.clearMarks();
  performance.mark("asked");
  write(new URLSearchParams(location.hash.slice(1)));
  try {
    const answer = await fetch(`run?${location.hash.slice(1)}`, { signal: mine.signal });
    if (!answer.ok) {
      const { error } = await answer.json();
      if (mine === request) refuse(error);
      return;
    }
    for await (const message of messages(answer.body)) {
      if (mine !== request) return;
      take(message);
    }
  } catch {
    if (mine === request) refuse("The server does not answer any more: start it again by tts-jax serve.");
  }
}

function take(message) {
  if (message.kind === "compiling") {
    compiling = true;
    say(`Compiling for up to ${message.width} neurons: some seconds, and only once.`, "compiling");
  } else if (message.kind === "setting") {
    pause();
    const visible = new Set(RUNS.filter((name) => row(name).querySelector("input").checked));
    picture = { ...message, times: unpacked(message.times), runs: new Map(), visible };
    for (const text of ["start", "step"]) find(text).textContent = message[text];
    for (const name of RUNS) row(name).querySelector(".words").textContent = "";
    place = 0;
    slider.max = picture.times.length - 1;
    renew();
  } else if (message.kind === "progress") {
    const percent = Math.round(100 * message.done);
    const what = compiling ? "Compiling, which is done only once, and computing" : "Computing";
    say(`${what}: ${message.run}${percent ? `, ${percent} %` : ""}.`, "computing");
  } else if (message.kind === "run") {
    const arrays = ["risk", "positions", "functions"].map((name) => [name, unpacked(message[name])]);
    picture.runs.set(message.run, { ...message, ...Object.fromEntries(arrays) });
    const cost = `${message.steps.toLocaleString("en")} ${message.run === "limit" ? "events" : "steps"}`;
    row(message.run).querySelector(".words").textContent =
      `${message.words}; ${cost}, ${shown(message.seconds, 2)} s`;
    renew();
    if (picture.runs.size === 1) requestAnimationFrame(() => performance.mark("drawn"));
  } else if (message.kind === "done") {
    performance.mark("done");
    say(`Computed on this machine in ${shown(message.seconds, 2)} s.`, "done");
    if (calm.matches) show(slider.max);
    else play();
  } else if (message.kind === "error") {
    refuse(message.error);
  }
}

function row(name) {
  return document.querySelector(`[data-run="${name}"]`);
}

// After a change of what is drawn, or of where.
function renew() {
  if (!picture) return;
  stage.fit();
  stage.update(picture);
  show(place);
}

function show(wanted) {
  place = Number(wanted);
  const at = Math.round(place);
  const { times, epsilon, step_size: step, runs } = picture;
  stage.draw(picture, at);
  slider.value = at;
  const clocks = `slow time τ = ${shown(times[at])}`;
  slider.setAttribute("aria-valuetext", clocks);
  const steps = Math.round(times[at] / (epsilon * step)).toLocaleString("en");
  find("now").textContent = `${clocks}, fast time t = ${shown(times[at] / epsilon)}, step p = ${steps}`;
  for (const name of RUNS) {
    const risk = runs.get(name)?.risk;
    for (const [cell, value] of [[".now", risk?.[at]], [".end", risk?.at(-1)]]) {
      row(name).querySelector(cell).textContent = risk ? shown(value) : "";
      row(name).querySelector(cell).dataset.value = value ?? "";
    }
  }
}

function play() {
  if (place >= slider.max) place = 0;
  let before = performance.now();
  const next = (now) => {
    place = Math.min(slider.max, place + ((now - before) / 1000 / SECONDS) * slider.max * find("speed").value);
    before = now;
    playing = place < slider.max ? requestAnimationFrame(next) : 0;
    show(place);
    if (!playing) pause();
  };
  playing = requestAnimationFrame(next);
  find("play").textContent = "❚❚";
  find("play").setAttribute("aria-label", "Pause");
}

function pause() {
  cancelAnimationFrame(playing);
  playing = 0;
  find("play").textContent = "▶";
  find("play").setAttribute("aria-label", "Play");
}

// What lies under the mouse, in words.
function readFunctions(event) {
  if (!picture) return;
  const x = stage.functions.xAt(event.offsetX);
  const { jumps, values, points, runs } = picture;
  const target = values[jumps.filter((jump) => jump <= x).length];
  const at = Math.round(place) * points + Math.round(x * (points - 1));
  const each = RUNS.filter((name) => runs.has(name)).map((name) => `${name} ${shown(runs.get(name).functions[at])}`);
  find("reading").textContent = `x = ${shown(x)}: target ${shown(target)}, ${each.join(", ")}`;
}

function readPositions(event) {
  if (!picture) return;
  const [x, time] = [stage.positions.xAt(event.offsetX), stage.positions.yAt(event.offsetY)];
  find("reading").textContent = `x = ${shown(x)} at slow time τ = ${shown(time)}`;
}

function saveAt(time) {
  const later = picture.times.findIndex((each) => each >= time);
  return later < 0 ? slider.max : later;
}

function readRisks(event) {
  if (!picture) return;
  const at = saveAt(stage.risks.xAt(event.offsetX));
  const each = RUNS.filter((name) => picture.runs.has(name)).map(
    (name) => `${name} ${shown(picture.runs.get(name).risk[at])}`,
  );
  find("about-risks").textContent = `τ = ${shown(picture.times[at])}: ${each.join(", ")}`;
}

function sleep() {
  find("reading").textContent = "Grey: the target f*. A mark at the bottom is a neuron; below, its way from the start downwards.";
  find("about-risks").textContent = "A click goes to that time. A triangle: from there on the error is zero.";
}

function jumpTo(at) {
  if (!picture) return;
  pause();
  show(at);
}

find("play").addEventListener("click", () => picture && (playing ? pause() : play()));
slider.addEventListener("input", () => jumpTo(slider.value));
find("functions").addEventListener("pointermove", readFunctions);
find("positions").addEventListener("pointermove", readPositions);
find("risks").addEventListener("pointermove", readRisks);
find("risks").addEventListener("click", (event) => jumpTo(saveAt(stage.risks.xAt(event.offsetX))));
find("positions").addEventListener("click", (event) => jumpTo(saveAt(stage.positions.yAt(event.offsetY))));
for (const id of ["functions", "positions", "risks"]) find(id).addEventListener("pointerleave", sleep);
for (const name of RUNS) {
  row(name).querySelector("input").addEventListener("change", (event) => {
    picture?.visible[event.target.checked ? "add" : "delete"](name);
    renew();
  });
}
fields((query) => (location.hash = query));
dragTarget(stage.functions, () => picture, renew, (jumps, values) => {
  const asked = new URLSearchParams(location.hash.slice(1));
  asked.set("jumps", jumps);
  asked.set("values", values);
  location.hash = read(asked);
});
addEventListener("hashchange", ask);
new ResizeObserver(renew).observe(document.querySelector("#stage"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renew);
sleep();
ask();
