// A control for a row of the parameter table. Each has an element, `show(value)`, and calls `set(value)` when moved.

const HELD = 400; // ms for which a control that was just moved does not jump back

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function digits(row) {
  if (row.type === "int") return 0;
  const span = row.maximum - row.minimum;
  return span > 200 ? 1 : span > 5 ? 2 : 3;
}

function words(row, value) {
  return row.type === "float" ? String(+(+value).toFixed(digits(row))) : String(value);
}

class Control {
  constructor(row, set) {
    this.row = row;
    this.id = `p-${row.name}`;
    this.moved = 0;
    this.value = row.default;
    this.send = (value) => {
      this.moved = performance.now();
      this.paint(value);
      set(value);
    };
  }

  frame(className, ...children) {
    const help = `${this.row.description}\n/paintover/${this.row.address}`;
    return element("div", { class: `control ${className}`, "data-name": this.row.name, title: help }, ...children);
  }

  label() {
    const text = this.row.unit ? `${this.row.label}` : this.row.label;
    return element("label", { for: this.id, ondblclick: () => this.send(this.row.default) }, text);
  }

  show(value) {
    if (this.busy() || performance.now() - this.moved < HELD) {
      clearTimeout(this.later);
      this.later = setTimeout(() => this.show(value), HELD);
      return;
    }
    this.paint(value);
  }

  paint(value) {
    this.value = value;
    this.element.classList.toggle("changed", value !== this.row.default);
    this.draw(value);
  }

  busy() { return false; }
}

class Slider extends Control {
  constructor(row, set) {
    super(row, set);
    const step = row.step || (row.type === "int" ? 1 : (row.maximum - row.minimum) / 1000);
    this.range = element("input", {
      type: "range", id: this.id, min: row.minimum, max: row.maximum, step: row.type === "int" ? step : "any",
      oninput: () => this.send(row.type === "int" ? Math.round(this.range.value) : +(+this.range.value).toFixed(4)),
      ondblclick: () => this.send(row.default),
      onpointerdown: () => { this.held = true; },
      onpointerup: () => { this.held = false; },
      onpointercancel: () => { this.held = false; },
      onkeydown: (event) => this.key(event, step),
    });
    this.number = number(row, (value) => this.send(value));
    const unit = row.unit ? [element("span", {}, row.unit)] : [];
    this.element = this.frame(row.name, this.label(), element("div", { class: "number" }, this.number, ...unit), this.range);
    this.paint(row.default);
  }

  key(event, step) {
    // With step "any" the browser's own arrow keys would move by whole numbers.
    const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!way || this.row.type === "int") return;
    event.preventDefault();
    const value = +this.range.value + way * step * (event.shiftKey ? 100 : 10);
    this.send(+Math.min(this.row.maximum, Math.max(this.row.minimum, value)).toFixed(4));
  }

  busy() { return this.held || document.activeElement === this.number; }

  draw(value) {
    this.range.value = value;
    if (document.activeElement !== this.number) this.number.value = words(this.row, value);
    const { minimum, maximum } = this.row;
    const at = (one) => (100 * (one - minimum)) / (maximum - minimum);
    // What can go both ways fills from its middle.
    const zero = minimum < 0 && maximum > 0 ? 0 : minimum;
    const [from, to] = [at(zero), at(value)].sort((a, b) => a - b);
    this.range.style.setProperty("--from", `${from}%`);
    this.range.style.setProperty("--to", `${to}%`);
  }
}

function number(row, send, className = "") {
  const input = element("input", {
    type: "number", class: className, inputmode: row.minimum < 0 ? "text" : "decimal", min: row.minimum, max: row.maximum,
    step: "any", "aria-label": `${row.label}, value`,
    onchange: () => { if (input.value !== "" && isFinite(input.value)) send(+input.value); },
    onkeydown: (event) => { if (event.key === "Enter") input.blur(); },
    onfocus: () => input.select(),
  });
  return input;
}

class Entry extends Control {
  // A number whose range is too wide for a slider.
  constructor(row, set) {
    super(row, set);
    this.number = number(row, (value) => this.send(value), row.maximum > 99999 ? "long" : "");
    this.number.id = this.id;
    const more = row.name === "seed"
      ? [element("button", { class: "quiet", type: "button", title: "Choose another seed", onclick: () => set(-1) }, "New"),
         element("button", { class: "quiet", type: "button", title: "The next seed", onclick: () => this.send(this.value + 1) }, "+1")]
      : [element("span", {}, row.unit)];
    this.element = this.frame("", this.label(), element("div", { class: "number" }, this.number, ...more));
    this.paint(row.default);
  }

  busy() { return document.activeElement === this.number; }
  draw(value) { this.number.value = words(this.row, value); }
}

class Text extends Control {
  constructor(row, set) {
    super(row, set);
    this.hint = element("div", { class: "hint", hidden: true }, "Enter paints it, Escape brings the old text back");
    this.area = element("textarea", {
      id: this.id, rows: row.multiline ? 2 : 1, spellcheck: "false", autocomplete: "off",
      enterkeyhint: "send", placeholder: row.multiline ? row.description : "",
      oninput: () => this.mark(),
      onblur: () => this.commit(),
      onkeydown: (event) => {
        if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); this.commit(); }
        if (event.key === "Escape") { this.area.value = this.value; this.mark(); }
      },
    });
    this.element = this.frame("wide", this.label(), this.area, this.hint);
    this.paint(row.default);
  }

  mark() {
    const unsent = this.area.value !== this.value;
    this.area.classList.toggle("unsent", unsent);
    this.hint.hidden = !unsent;
  }

  commit() {
    if (this.area.value !== this.value) this.send(this.area.value);
    this.mark();
  }

  busy() { return document.activeElement === this.area && this.area.value !== this.value; }
  draw(value) { this.area.value = value; this.mark(); }
}

class Switch extends Control {
  constructor(row, set) {
    super(row, set);
    this.box = element("input", { type: "checkbox", role: "switch", id: this.id, onchange: () => this.send(this.box.checked) });
    this.element = this.frame("switched", this.label(), element("div", { class: "switch" }, this.box));
    this.paint(row.default);
  }

  draw(value) { this.box.checked = value; }
}

class Choice extends Control {
  constructor(row, set, names) {
    super(row, set);
    this.buttons = row.choices.map((choice) =>
      element("button", { type: "button", "aria-pressed": "false", onclick: () => this.send(choice) }, names?.[choice] ?? String(choice)));
    this.element = this.frame("wide", this.label(), element("div", { class: "choices", id: this.id }, ...this.buttons));
    this.paint(row.default);
  }

  draw(value) {
    this.buttons.forEach((button, i) => button.setAttribute("aria-pressed", this.row.choices[i] === value));
  }
}

class Model extends Control {
  constructor(row, set, models) {
    super(row, set);
    this.list = element("select", { id: this.id, onchange: () => this.send(this.list.value) },
      ...models.map((name) => element("option", { value: name }, name)));
    this.element = this.frame("wide", this.label(), this.list);
    this.paint(row.default);
  }

  draw(value) {
    if (![...this.list.options].some((option) => option.value === value)) {
      this.list.append(element("option", { value }, value));
    }
    this.list.value = value;
  }
}

class Toggle extends Control {
  // A switch of the stage as a button in its bar.
  constructor(row, set, className = "") {
    super(row, set);
    this.button = element("button", {
      type: "button", id: this.id, class: className, "data-name": row.name, "aria-pressed": "false",
      title: `${row.description}\n/paintover/${row.address}`, onclick: () => this.send(!this.value),
    }, row.label);
    this.element = this.button;
    this.paint(row.default);
  }

  draw(value) { this.button.setAttribute("aria-pressed", value); }
}

const QUANTIZE = { 0: "at once", 1: "beat", 4: "bar" };

export function control(row, set, models) {
  if (row.name === "play" || row.name === "freeze") return new Toggle(row, set, row.name === "freeze" ? "cold" : "");
  if (row.name === "model") return new Model(row, set, models);
  if (row.type === "bool") return new Switch(row, set);
  if (row.type === "str") return new Text(row, set);
  if (row.choices.length) return new Choice(row, set, row.name === "tempo_quantize" ? QUANTIZE : null);
  if (row.minimum == null || row.maximum == null || row.maximum - row.minimum > 2500) return new Entry(row, set);
  return new Slider(row, set);
}

export { element };
