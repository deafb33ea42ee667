// The monitor page: what goes out, how the stage does, and a control for every live parameter.

import { control, element } from "./controls.js";
import { Graph } from "./graph.js";
import { Link } from "./link.js";
import { Presets } from "./presets.js";

// Groups of the parameter table in the order in which a performer needs them; any other comes after these.
const GROUPS = {
  prompt: "Prompt", presets: "Presets", prompts: "Prompt blend", control: "Control", feedback: "Feedback", image: "Image",
  tempo: "Tempo", model: "Model", blender: "Blender", stage: "Output",
};
const IN_BAR = ["play", "freeze", "blackout"];
const BADLY = ["loading", "warming", "recovering", "error"];
const KEPT = 60;

const at = (id) => document.getElementById(id);
const controls = new Map();
const graph = new Graph(at("graph"));
const presets = new Presets((...all) => link.trigger(...all));
const canvas = at("frame");
const pen = canvas.getContext("2d", { alpha: false });

const link = new Link({
  open() { document.body.dataset.link = "there"; },
  lost() {
    document.body.dataset.link = "lost";
    at("state").textContent = "no connection";
    notice("The server does not answer. Trying again…");
  },
  async frame(blob) {
    const image = await createImageBitmap(blob);
    if (canvas.width !== image.width || canvas.height !== image.height) {
      [canvas.width, canvas.height] = [image.width, image.height];
    }
    pen.drawImage(image, 0, 0);
    image.close();
    canvas.dataset.frames = +(canvas.dataset.frames ?? 0) + 1;
  },
  message(message) {
    if (message.hello) build(message.hello);
    if (message.presets) presets.show(message.presets);
    if (message.values) for (const [name, value] of Object.entries(message.values)) controls.get(name)?.show(value);
    if (message.status) status(message.status);
    if (message.osc) heard(message.osc);
    if (message.lines) for (const line of message.lines) problem(...line);
  },
});

// ---------------------------------------------------------------- building the page from the table

function build({ parameters, models }) {
  document.body.dataset.built = "yes";
  controls.clear();
  const groups = new Map(Object.keys(GROUPS).map((name) => [name, []]));
  for (const row of parameters) {
    const made = control(row, (value) => link.set(row.name, value), models);
    controls.set(row.name, made);
    if (IN_BAR.includes(row.name)) continue;
    if (!groups.has(row.group)) groups.set(row.group, []);
    groups.get(row.group).push(row);
  }
  at("bar").replaceChildren(
    ...IN_BAR.slice(0, 2).map((name) => controls.get(name).element),
    element("button", { type: "button", id: "reset", title: "Forget the frames so far\n/paintover/reset", onclick: () => link.trigger("reset") }, "Reset"),
    element("button", { type: "button", id: "tap", title: "Tap the tempo\n/paintover/tempo/tap", onclick: () => link.trigger("tempo/tap") }, "Tap"),
    controls.get("blackout").element,
  );
  const open = remembered();
  at("controls").replaceChildren(...[...groups].filter(([name, list]) => list.length || name === "presets").map(([name, list]) => {
    const pairs = ["feedback", "blender", "stage"].includes(name) ? " pairs" : "";
    const inside = name === "presets" ? presets.element : element("div", { class: `group${pairs}` }, ...together(name, list));
    return element("details", { id: `g-${name}`, open: open.has(name), ontoggle: remember },
      element("summary", {}, GROUPS[name] ?? name), inside);
  }));
  at("g-stage")?.querySelector(".group").append(
    element("a", { class: "button wide", href: "snapshot.png", target: "_blank", rel: "noopener" }, "Snapshot as PNG"));
  const jobs = [["texture/run", "Texture"], ["animation/run", "Animation"], ["cancel", "Cancel"]].map(([address, words]) =>
    element("button", { type: "button", title: `In Blender\n/paintover/${address}`, onclick: () => link.trigger(address) }, words));
  at("g-blender")?.querySelector(".group").append(element("div", { class: "choices wide" }, ...jobs));
}

// What belongs together stands together: a ControlNet's switch with its scale, a prompt with its weight.
function together(name, rows) {
  const second = { control: "_scale", prompts: "_weight" }[name];
  const made = [];
  for (const row of rows) {
    const partner = second && rows.find((other) => other.name === row.name + second);
    if (partner) {
      const pair = element("div", { class: `pair wide ${name}` }, controls.get(row.name).element, controls.get(partner.name).element);
      made.push(pair);
    } else if (!(second && row.name.endsWith(second))) made.push(controls.get(row.name).element);
  }
  return made;
}

function remembered() {
  const narrow = matchMedia("(max-width: 860px)").matches;
  try {
    const kept = JSON.parse(localStorage.getItem("groups"));
    if (Array.isArray(kept)) return new Set(kept);
  } catch { /* nothing sound was kept */ }
  return new Set(narrow ? ["prompt", "presets"] : ["prompt", "presets", "control", "feedback", "image"]);
}

function remember() {
  const open = [...document.querySelectorAll("#controls details[open]")].map((one) => one.id.slice(2));
  try { localStorage.setItem("groups", JSON.stringify(open)); } catch { /* private windows keep nothing */ }
}

// ---------------------------------------------------------------- status

function status(now) {
  document.body.dataset.state = now.state;
  at("state").textContent = now.state;
  at("text").textContent = now.text;
  const short = (value) => (value >= 100 ? value.toFixed(0) : value > 0 ? value.toFixed(1) : "–");
  for (const name of ["fps", "latency_ms", "vram_gb"]) at(name).textContent = short(now[name]);
  const age = now.pace.frame_age_ms;
  at("frame_age_ms").textContent = age > 9999 ? "–" : age.toFixed(0);
  at("jitter_ms").textContent = short(now.pace.jitter_ms ?? 0);
  at("dropped").textContent = now.dropped;
  at("progress").value = now.progress;
  at("progress").classList.toggle("on", now.progress > 0 && now.progress < 1);
  notice(BADLY.includes(now.state) ? now.text || `${now.state}…` : "");
  graph.add(now.latency_ms);
}

function notice(text) {
  at("notice").classList.toggle("on", Boolean(text));
  if (text) at("notice").textContent = text;
}

// ---------------------------------------------------------------- what came in, and what was wrong

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

function line(when, about, text, kind = "") {
  return element("li", { class: kind }, element("time", {}, clock(when)),
    element("div", {}, element("b", {}, about), " ", element("span", {}, text)));
}

let told = new Set(); // only the newest errors ever come again: a set of all would grow with the show

function heard({ messages, errors }) {
  if (messages.length) at("heard").replaceChildren(...messages.reverse().map(([when, , address, text]) => line(when, address, text)));
  const there = new Set();
  for (const [when, , address, text] of errors) {
    const key = `${when} ${address}`;
    there.add(key);
    if (!told.has(key)) problem(when, "error", address, text);
  }
  told = there;
}

function problem(when, kind, about, text) {
  const list = at("problems");
  list.querySelector(".empty")?.remove();
  list.prepend(line(when, about || (kind === "error" ? "Trouble" : "Event"), text, kind));
  while (list.children.length > KEPT) list.lastChild.remove();
  at("clear").hidden = false;
}

at("clear").addEventListener("click", () => {
  at("problems").replaceChildren(element("li", { class: "empty" }, "None."));
  at("clear").hidden = true;
});

at("picture").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else at("picture").requestFullscreen?.();
});
