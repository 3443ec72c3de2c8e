// Lines from queries (left) to keys (right). The canvas stays in view while the tokens scroll past it, so that
// a long sequence costs no more pixels than a short one.

const ROW = 24;
const SIDE = 0.36;

class HeadLines {
  constructor(host) {
    this.root = element("div", "am-lines");
    this.root.setAttribute("role", "group");
    this.heads = element("div", "am-heads");
    this.scroll = element("div", "am-scroll");
    this.inner = element("div", "am-inner");
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    this.sides = { q: this.side("am-left", "q"), k: this.side("am-right", "k") };
    this.inner.append(this.canvas, this.sides.q, this.sides.k);
    this.scroll.append(this.inner);
    this.root.append(this.heads, this.scroll);
    host.append(this.root);
    this.hover = [null, null];
    this.link = new HoverLink((q, k) => this.showHover(q, k));
    this.scroll.addEventListener("scroll", () => this.schedule());
    this.resize = new ResizeObserver(() => this.schedule());
    this.resize.observe(this.scroll);
  }

  side(className, axis) {
    const side = element("div", `am-side ${className}`);
    side.setAttribute("role", "listbox");
    side.tabIndex = 0;
    const send = (position) => (axis === "q" ? this.link.send(position, null) : this.link.send(null, position));
    side.addEventListener("pointerover", (event) => {
      const token = event.target.closest(".am-token");
      if (token) send(Number(token.dataset.position));
    });
    side.addEventListener("pointerleave", () => this.link.send(null, null));
    side.addEventListener("blur", () => this.link.send(null, null));
    side.addEventListener("keydown", (event) => {
      const last = side.children.length - 1;
      const at = this.hover[axis === "q" ? 0 : 1];
      const targets = { ArrowDown: at === null ? 0 : at + 1, ArrowUp: at === null ? last : at - 1, Home: 0, End: last };
      if (event.key === "Escape") this.link.send(null, null);
      else if (event.key in targets) {
        const target = Math.min(last, Math.max(0, targets[event.key]));
        send(target);
        side.children[target].scrollIntoView({ block: "nearest" });
      } else return;
      event.preventDefault();
    });
    return side;
  }

  update(header, body) {
    this.header = header;
    this.body = body;
    this.link.stream = header.stream;
    const { texts } = header;
    this.root.setAttribute("aria-label", texts.lines);
    this.heads.replaceChildren(
      element("span", "", texts.query), element("span", "", texts.hint), element("span", "", texts.key),
    );
    this.fill("q", header.queries, texts.query);
    this.fill("k", header.keys, texts.key);
    this.inner.style.height = `${Math.max(header.queries.length, header.keys.length, 1) * ROW}px`;
    this.prepare();
    this.showHover(...this.hover);
  }

  fill(axis, labels, name) {
    const side = this.sides[axis];
    side.setAttribute("aria-label", name);
    side.replaceChildren(...labels.map((label, position) => {
      const token = element("div", "am-token");
      token.id = `am-${axis}-${position}`;
      token.dataset.position = String(position);
      token.setAttribute("role", "option");
      token.title = `${position}: ${label}`;
      token.append(nameOf(label), element("span", "am-number", ""));
      return token;
    }));
  }

  /** Lines by weight, faintest first, so that strong ones end on top. */
  prepare() {
    const columns = this.header.keys.length;
    this.byWeight = Array.from({ length: 256 }, () => []);
    this.body.forEach((byte, index) => {
      if (byte > 1) this.byWeight[byte].push([Math.floor(index / columns), index % columns]);
    });
  }

  weight(q, k) {
    return this.body[q * this.header.keys.length + k];
  }

  schedule() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.paint();
    });
  }

  paint() {
    const width = this.inner.clientWidth;
    if (!this.header || !width) return;
    const started = performance.now();
    this.theme = readTheme(this.root, this.header);
    this.root.style.setProperty("--am-accent", this.theme.accent);
    const height = Math.min(this.inner.clientHeight, this.scroll.clientHeight);
    const scale = sizeCanvas(this.canvas, width, height);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const top = this.scroll.scrollTop;
    const [x0, x1] = [width * SIDE + 4, width * (1 - SIDE) - 4];
    const middle = (x0 + x1) / 2;
    const [q, k] = this.hover;
    this.byWeight.forEach((lines, byte) => {
      if (!lines.length) return;
      const weight = weightOf(byte);
      context.strokeStyle = this.theme.colours[byte];
      context.lineWidth = 0.75 + 4.25 * weight;
      context.beginPath();
      for (const [i, j] of lines) {
        if (q !== null ? i !== q : k !== null && j !== k) continue;
        const y0 = (i + 0.5) * ROW - top;
        const y1 = (j + 0.5) * ROW - top;
        if (Math.max(y0, y1) < 0 || Math.min(y0, y1) > height) continue;
        context.moveTo(x0, y0);
        context.bezierCurveTo(middle, y0, middle, y1, x1, y1);
      }
      context.stroke();
    });
    this.root.dataset.theme = this.theme.name;
    this.root.dataset.digest = this.header.digest;
    this.root.dataset.paintMs = (performance.now() - started).toFixed(1);
  }

  /** A query's lines when one is pointed at, else a key's; the weights stand beside the other side. */
  showHover(q, k) {
    this.hover = [q, k];
    this.root.dataset.hover = `${q},${k}`;
    if (!this.header) return;
    const one = q !== null ? "q" : k !== null ? "k" : null;
    for (const axis of ["q", "k"]) {
      const side = this.sides[axis];
      const pointed = axis === "q" ? q : k;
      side.removeAttribute("aria-activedescendant");
      for (const token of side.children) {
        const position = Number(token.dataset.position);
        const here = position === pointed;
        token.classList.toggle("am-pointed", here);
        token.classList.toggle("am-dim", axis === one && !here);
        token.lastChild.textContent = one && axis !== one ? this.number(q, k, position) : "";
        if (here) side.setAttribute("aria-activedescendant", token.id);
      }
    }
    this.schedule();
  }

  number(q, k, position) {
    const byte = q !== null ? this.weight(q, position) : this.weight(position, k);
    if (byte === undefined) return "";
    return byte === 0 ? this.header.texts.masked : weightOf(byte).toFixed(2);
  }

  close() {
    this.link.close();
    this.resize.disconnect();
    if (this.waiting) cancelAnimationFrame(this.waiting);
    this.root.remove();
  }
}

export default function (component) {
  return mount(HeadLines, component);
}
