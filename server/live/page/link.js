// The WebSocket to the server: connects, connects again, sends what was set (newest value wins), asks for frames.

const AGAIN = [300, 600, 1200, 2400];
const PACE = 33; // ms between two messages with values
const AHEAD = 2; // frames that are asked for ahead

export class Link {
  constructor(hear) {
    this.hear = hear; // {message, frame, open, lost}
    this.values = {};
    this.timer = 0;
    this.tries = 0;
    this.asked = 0;
    document.addEventListener("visibilitychange", () => this.ask());
    this.connect();
  }

  connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    socket.binaryType = "blob";
    this.socket = socket;
    socket.onopen = () => {
      this.tries = 0;
      this.asked = 0;
      this.hear.open();
      this.ask();
    };
    socket.onmessage = (event) => {
      if (typeof event.data === "string") return this.hear.message(JSON.parse(event.data));
      this.asked -= 1;
      this.hear.frame(event.data).catch(() => {}).finally(() => this.ask());
    };
    socket.onclose = () => {
      this.hear.lost();
      setTimeout(() => this.connect(), AGAIN[Math.min(this.tries++, AGAIN.length - 1)]);
    };
  }

  say(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  ask() {
    // A page that nobody sees asks for nothing.
    while (!document.hidden && this.asked < AHEAD && this.socket.readyState === WebSocket.OPEN) {
      this.asked += 1;
      this.say({ frame: true });
    }
  }

  set(name, value) {
    this.values[name] = value;
    if (!this.timer) {
      this.flush();
      this.timer = setTimeout(() => { this.timer = 0; this.flush(); }, PACE);
    }
  }

  flush() {
    if (!Object.keys(this.values).length) return;
    this.say({ set: this.values });
    this.values = {};
  }

  trigger(address, ...values) {
    this.flush();
    this.say({ trigger: address, arguments: values });
  }
}
