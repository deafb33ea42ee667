// Pads for presets: tap to recall, within the morph's time; with Store on, tap to store.

import { element } from "./controls.js";

const COUNT = 128;
const SHOWN = 16;

export class Presets {
  constructor(trigger) {
    this.trigger = trigger;
    this.page = 0;
    this.stored = new Set();
    this.last = 0;
    this.storing = element("button", { type: "button", id: "store", "aria-pressed": "false", onclick: () => this.store(!this.isStoring) }, "Store");
    this.morph = element("input", { type: "range", id: "morph", min: 0, max: 20, step: 0.1, value: 0, oninput: () => this.draw() });
    this.seconds = element("div", { class: "number" });
    // Made once: a pad that is replaced under a finger would lose the tap.
    this.slots = Array.from({ length: SHOWN }, (_, slot) =>
      element("button", { type: "button", onclick: () => this.tap(this.numberOf(slot)) }));
    this.pads = element("div", { class: "pads" }, ...this.slots);
    const turn = (by) => () => { this.page = (this.page + by + COUNT / SHOWN) % (COUNT / SHOWN); this.draw(); };
    this.element = element("div", { class: "group" },
      this.pads,
      element("div", { class: "row" },
        this.storing,
        element("button", { type: "button", "aria-label": "Presets before", onclick: turn(-1) }, "‹"),
        element("button", { type: "button", "aria-label": "Presets after", onclick: turn(1) }, "›"),
        element("div", { class: "control", title: "Time in which a recalled preset is reached" },
          element("label", { for: "morph" }, "Morph"), this.seconds, this.morph)));
    this.draw();
  }

  numberOf(slot) { return this.page * SHOWN + 1 + slot; }

  get isStoring() { return this.storing.getAttribute("aria-pressed") === "true"; }

  store(on) {
    this.storing.setAttribute("aria-pressed", on);
    this.pads.classList.toggle("storing", on);
  }

  show(stored) {
    this.stored = new Set(stored);
    this.draw();
  }

  tap(number) {
    if (this.isStoring) {
      this.trigger("preset/store", number);
      this.store(false);
    } else if (this.stored.has(number)) {
      const seconds = +this.morph.value;
      this.trigger("preset/recall", number, ...(seconds ? [seconds] : []));
    } else return;
    this.last = number;
    this.draw();
  }

  draw() {
    const seconds = +this.morph.value;
    this.seconds.textContent = seconds ? `${seconds.toFixed(1)} s` : "at once";
    this.morph.style.setProperty("--to", `${5 * seconds}%`);
    for (const [slot, pad] of this.slots.entries()) {
      const number = this.numberOf(slot);
      pad.className = [this.stored.has(number) && "stored", number === this.last && "last"].filter(Boolean).join(" ");
      pad.dataset.preset = pad.textContent = number;
    }
  }
}
