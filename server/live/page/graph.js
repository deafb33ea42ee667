// The latency over the last minute.

const SPAN = 60000;
const STEPS = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 60000];

export class Graph {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  add(latency) {
    const now = performance.now();
    this.points.push([now, latency]);
    while (this.points.length && this.points[0][0] < now - SPAN) this.points.shift();
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const most = Math.max(...this.points.map((point) => point[1]), 8);
    const top = STEPS.find((step) => step >= most) ?? most;
    const [left, bottom] = [38, height - 4];
    const y = (ms) => bottom - Math.min(1, ms / top) * (bottom - 8);
    const now = performance.now();
    const x = (at) => left + (1 - (now - at) / SPAN) * (width - left);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const share of [0, 0.5, 1]) {
      pen.fillStyle = "#262a31";
      pen.fillRect(left, Math.round(y(top * share)), width - left, 1);
      pen.fillStyle = "#918e86";
      pen.fillText(`${top * share}`, 0, Math.min(bottom - 5, Math.max(8, y(top * share))));
    }
    pen.beginPath();
    for (const [at, latency] of this.points) {
      if (latency > 0) pen.lineTo(x(at), y(latency)); // 0: nothing was measured yet
    }
    pen.strokeStyle = "#ffb454";
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.stroke();
  }
}
