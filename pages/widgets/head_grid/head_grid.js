// The head grid: pixels in one canvas, everything else (frames, captions, focus) in elements above it.
// It knows pictures and strings; which head means what, it is told.

const GAPS = { few: 6, many: 3, manyColumns: 16 };
const HEADINGS = 20;
const SMALLEST = 26;
const LARGEST = 168;
const FLOWING = 104;

class HeadGrid {
  constructor(host) {
    this.root = element("div", "am-grid");
    this.legend = element("div", "am-legend");
    this.scroll = element("div", "am-scroll");
    this.board = element("div", "am-board");
    this.board.setAttribute("role", "grid");
    this.board.tabIndex = 0;
    this.picture = document.createElement("canvas");
    this.bands = document.createElement("canvas");
    for (const canvas of [this.picture, this.bands]) canvas.setAttribute("aria-hidden", "true");
    this.tip = element("div", "am-tip am-hidden");
    this.spoken = element("div", "am-spoken");
    this.spoken.setAttribute("aria-live", "polite");
    this.scroll.append(this.board);
    this.root.append(this.legend, this.scroll, this.tip, this.spoken);
    host.append(this.root);
    this.active = 0;
    this.width = 0;
    this.hover = [null, null];
    this.link = new HoverLink((q, k) => this.showHover(q, k));
    this.board.addEventListener("pointermove", (event) => this.point(event));
    this.board.addEventListener("pointerleave", () => this.leave());
    this.board.addEventListener("click", (event) => this.click(event));
    this.board.addEventListener("keydown", (event) => this.press(event));
    this.board.addEventListener("focus", () => this.activate(this.active));
    this.resize = new ResizeObserver(() => {
      if (Math.abs(this.root.clientWidth - this.width) >= 1) requestAnimationFrame(() => this.draw());
    });
    this.resize.observe(this.root);
  }

  update(header, body, trigger) {
    const before = this.header?.heads[this.active];
    const shape = JSON.stringify({ ...header, selected: null });
    // Another head was opened and nothing else: the pixels stand.
    const painted = this.shape === shape && this.theme?.name === readTheme(this.root, header).name;
    this.shape = shape;
    this.header = header;
    this.body = body;
    this.trigger = trigger;
    this.link.stream = header.stream;
    const again = header.heads.findIndex((head) => before && head.layer === before.layer && head.head === before.head);
    this.active = Math.max(0, again);
    if (painted) {
      this.mark(header.selected);
      return;
    }
    this.board.setAttribute("aria-label", header.texts.grid);
    this.draw();
  }

  draw() {
    const started = performance.now();
    const { header } = this;
    if (!header || !this.root.clientWidth) return;
    this.width = this.root.clientWidth;
    this.theme = readTheme(this.root, header);
    this.root.style.setProperty("--am-accent", this.theme.accent);
    this.drawLegend();
    this.place();
    this.paint();
    this.build();
    this.showHover(...this.hover);
    this.root.dataset.digest = header.digest;
    this.root.dataset.theme = this.theme.name;
    this.root.dataset.paintMs = (performance.now() - started).toFixed(1);
  }

  drawLegend() {
    const { texts } = this.header;
    const { colours } = this.theme;
    const ramp = element("div", "am-ramp");
    const stops = Array.from({ length: 33 }, (_, i) => colours[1 + Math.round((i * 254) / 32)]);
    ramp.style.background = `linear-gradient(to right, ${stops.join(",")})`;
    const ticks = element("div", "am-ticks");
    for (const tick of this.header.limit === 1 ? [0, 0.25, 0.5, 0.75, 1] : [0, 0.5, 1]) {
      const mark = element("span", "", tick === 0 ? "0" : this.number(tick));
      mark.style.left = `${100 * tick}%`;
      ticks.append(mark);
    }
    const scale = element("div", "");
    scale.append(ramp, ticks);
    this.legend.replaceChildren(element("span", "", texts.legend), scale);
    if (this.body.includes(0)) {
      const hatch = element("div", "am-hatch");
      hatch.style.background =
        `repeating-linear-gradient(135deg, ${colours[0]} 0 2px, ${colours[1]} 2px 5px)`;
      this.legend.append(hatch, element("span", "", texts.masked));
    }
  }

  /** Where each head stands, in CSS pixels; cells are whole device pixels wide where there is room for three. */
  place() {
    const { rows, cols, columns, heads } = this.header;
    const natural = columns > 0;
    const left = natural ? this.gutter() : 0;
    const top = natural ? HEADINGS : 0;
    const room = this.width - left - 6;
    const gap = columns > GAPS.manyColumns ? GAPS.many : GAPS.few;
    const across = natural ? columns : Math.max(1, Math.floor((room + gap) / (FLOWING + gap)));
    let width = Math.min(LARGEST, Math.max(SMALLEST, (room - gap * (across - 1)) / across));
    let height = width * Math.min(1.6, Math.max(0.3, rows / Math.max(1, cols)));
    const dpr = window.devicePixelRatio || 1;
    const snap = (length, cells) => {
      const cell = (length * dpr) / cells;
      return (cell >= 3 ? Math.floor(cell) * cells : Math.round(length * dpr)) / dpr;
    };
    width = snap(width, cols);
    height = snap(height, rows);
    this.captioned = !natural || width >= 84;
    const lines = natural ? (this.captioned ? 1 : 0) : 2;
    const stepX = Math.max(width, natural ? 0 : FLOWING) + gap;
    const stepY = height + gap + lines * 16 + (lines ? 4 : 0);
    this.across = across;
    this.tiles = heads.map((_, i) => ({
      x: left + (i % across) * stepX + 1, y: top + Math.floor(i / across) * stepY + 1, width, height,
    }));
    this.size = {
      left, top, stepX, stepY, gap, natural,
      width: left + Math.min(across, heads.length) * stepX, height: top + Math.ceil(heads.length / across) * stepY,
    };
    this.board.style.width = `${this.size.width}px`;
    this.board.style.height = `${heads.length ? this.size.height : 0}px`;
  }

  /** Every head's pixels; a device pixel that covers several cells takes the largest, so that no line vanishes. */
  paint() {
    const { rows, cols, heads } = this.header;
    const scale = sizeCanvas(this.picture, this.size.width, this.size.height);
    if (!heads.length) return;
    const context = this.picture.getContext("2d");
    const words = colourWords(this.theme.colours);
    const width = Math.max(1, Math.round(this.tiles[0].width * scale));
    const height = Math.max(1, Math.round(this.tiles[0].height * scale));
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const first = Int32Array.from({ length: width + 1 }, (_, x) => Math.floor((x * cols) / width));
    const stripe = Math.max(4, Math.round(5 * scale));
    const line = new Uint8Array(width);
    this.tiles.forEach((tile, index) => {
      const base = index * rows * cols;
      let from = -1;
      let to = -1;
      for (let y = 0; y < height; y++) {
        const row = Math.floor((y * rows) / height);
        const end = Math.max(row + 1, Math.floor(((y + 1) * rows) / height));
        if (row !== from || end !== to) {
          for (let x = 0; x < width; x++) {
            const stop = Math.max(first[x] + 1, first[x + 1]);
            let most = 0;
            for (let r = row; r < end; r++) {
              for (let c = first[x]; c < stop; c++) most = Math.max(most, this.body[base + r * cols + c]);
            }
            line[x] = most;
          }
          from = row;
          to = end;
        }
        for (let x = 0; x < width; x++) {
          const byte = line[x];
          pixels[y * width + x] = byte === 0 && (x + y) % stripe >= stripe * 0.4 ? words[1] : words[byte];
        }
      }
      context.putImageData(image, Math.round(tile.x * scale), Math.round(tile.y * scale));
    });
  }

  /** The elements above the pixels: headings, and a gridcell for each head. */
  build() {
    const { header, size, across } = this;
    const { texts, heads } = header;
    this.board.replaceChildren(this.picture, this.bands);
    this.board.setAttribute("aria-colcount", String(across));
    this.board.setAttribute("aria-rowcount", String(Math.ceil(heads.length / across)));
    if (!heads.length) {
      this.board.append(element("div", "am-empty", texts.empty));
      this.board.style.height = "auto";
    }
    if (size.natural) this.buildHeadings();
    this.cells = heads.map((head, i) => {
      const cell = element("div", "am-cell");
      cell.id = `am-cell-${i}`;
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-label", `${this.nameOf(head)}, ${head.label}, ${head.caption}`);
      cell.setAttribute("aria-colindex", String((i % across) + 1));
      const tile = this.tiles[i];
      Object.assign(cell.style, { left: `${tile.x}px`, top: `${tile.y}px`, width: `${size.stepX - size.gap}px` });
      const frame = element("div", "am-frame");
      Object.assign(frame.style, { width: `${tile.width + 2}px`, height: `${tile.height + 2}px` });
      cell.append(frame);
      if (!size.natural) cell.append(element("div", "am-caption", head.caption));
      if (this.captioned) {
        const label = element("div", "am-caption am-label", head.label);
        if (!size.natural) label.style.marginTop = "0";
        cell.append(label);
      }
      return cell;
    });
    for (let i = 0; i < heads.length; i += across) {
      const row = element("div", "");
      row.setAttribute("role", "row");
      row.append(...this.cells.slice(i, i + across));
      this.board.append(row);
    }
    this.mark(header.selected);
    this.setActive(this.active);
  }

  /** A share of the strongest colour as the weight it stands for. */
  number(share) {
    const { limit } = this.header;
    return limit === 1 ? String(Number(share.toFixed(2))) : (limit * share).toPrecision(2);
  }

  /** Room for the layers' headings, in CSS pixels. */
  gutter() {
    const probe = element("span", "am-axis", `${this.header.texts.layer} 00`);
    this.board.append(probe);
    const width = probe.offsetWidth;
    probe.remove();
    return width + 8;
  }

  buildHeadings() {
    const { header, size } = this;
    const { texts, heads } = header;
    const layers = Math.ceil(heads.length / header.columns);
    for (let column = 0; column < header.columns; column++) {
      const text = column === 0 ? `${texts.head} 0` : String(column);
      this.board.append(this.heading(text, size.left + column * size.stepX, 0, this.tiles[0].width, HEADINGS));
    }
    for (let layer = 0; layer < layers; layer++) {
      const y = size.top + layer * size.stepY;
      const { height } = this.tiles[0];
      const node = this.heading(layer === 0 ? `${texts.layer} 0` : String(layer), 0, y, size.left - 6, height);
      node.style.lineHeight = `${height}px`;
      node.style.textAlign = "right";
      this.board.append(node);
    }
  }

  heading(text, x, y, width, height) {
    const node = element("div", "am-axis", text);
    node.setAttribute("aria-hidden", "true");
    Object.assign(node.style, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
    return node;
  }

  nameOf(head) {
    const { texts } = this.header;
    return `${texts.layer} ${head.layer} · ${texts.head} ${head.head}`;
  }

  mark(selected) {
    this.header.heads.forEach((head, i) => {
      const chosen = Boolean(selected) && head.layer === selected[0] && head.head === selected[1];
      this.cells[i].setAttribute("aria-selected", String(chosen));
    });
  }

  setActive(index) {
    this.cells.forEach((cell, i) => cell.classList.toggle("am-active", i === index));
    this.active = index;
    if (this.cells[index]) this.board.setAttribute("aria-activedescendant", this.cells[index].id);
    else this.board.removeAttribute("aria-activedescendant");
  }

  activate(index) {
    if (!this.cells?.[index]) return;
    this.setActive(index);
    const head = this.header.heads[index];
    this.spoken.textContent = `${this.nameOf(head)}: ${head.label}, ${head.caption}`;
  }

  open(index) {
    const head = this.header.heads[index];
    if (!head) return;
    this.mark([head.layer, head.head]);
    this.trigger("clicked", [head.layer, head.head]);
  }

  /** The head under the pointer, and its cell. */
  find(event) {
    const box = this.board.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    const index = this.tiles.findIndex(
      (tile) => x >= tile.x && y >= tile.y && x < tile.x + tile.width && y < tile.y + this.size.stepY - this.size.gap,
    );
    if (index < 0) return null;
    const tile = this.tiles[index];
    const inside = y < tile.y + tile.height;
    return {
      index,
      q: inside ? Math.floor(((y - tile.y) / tile.height) * this.header.rows) : null,
      k: inside ? Math.floor(((x - tile.x) / tile.width) * this.header.cols) : null,
    };
  }

  point(event) {
    const found = this.find(event);
    if (!found) {
      this.leave();
      return;
    }
    const { header } = this;
    const head = header.heads[found.index];
    this.cells.forEach((cell, i) => cell.classList.toggle("am-over", i === found.index));
    this.tip.replaceChildren(element("b", "", this.nameOf(head)), element("div", "", `${head.label} · ${head.caption}`));
    if (found.q !== null) {
      const byte = this.body[(found.index * header.rows + found.q) * header.cols + found.k];
      const pair = element("div", "");
      const weight = byte === 0 ? header.texts.masked : `${header.texts.weight} ${this.number(weightOf(byte))}`;
      pair.append(isolated(header.queries[found.q]), " → ", isolated(header.keys[found.k]), `: ${weight}`);
      this.tip.append(pair);
    }
    this.tip.classList.remove("am-hidden");
    const box = this.root.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    const flip = x + 16 + this.tip.offsetWidth > box.width;
    this.tip.style.left = `${Math.max(0, flip ? x - 12 - this.tip.offsetWidth : x + 14)}px`;
    this.tip.style.top = `${y + 14}px`;
    this.link.send(found.q, found.k);
  }

  leave() {
    this.tip.classList.add("am-hidden");
    this.cells?.forEach((cell) => cell.classList.remove("am-over"));
    this.link.send(null, null);
  }

  click(event) {
    const found = this.find(event);
    if (!found) return;
    this.activate(found.index);
    this.open(found.index);
  }

  press(event) {
    const last = this.header.heads.length - 1;
    const row = this.active - (this.active % this.across);
    const targets = {
      ArrowRight: this.active + 1, ArrowLeft: this.active - 1,
      ArrowDown: this.active + this.across, ArrowUp: this.active - this.across,
      Home: event.ctrlKey ? 0 : row, End: event.ctrlKey ? last : Math.min(last, row + this.across - 1),
    };
    if (event.key === "Enter" || event.key === " ") this.open(this.active);
    else if (event.key in targets) {
      const target = targets[event.key];
      if (target >= 0 && target <= last) {
        this.activate(target);
        this.cells[target].scrollIntoView({ block: "nearest", inline: "nearest" });
      }
    } else return;
    event.preventDefault();
  }

  /** The row and column that are pointed at, in every head. */
  showHover(q, k) {
    this.hover = [q, k];
    if (!this.tiles) return;
    const scale = sizeCanvas(this.bands, this.size.width, this.size.height);
    this.root.dataset.hover = `${q},${k}`;
    const { rows, cols } = this.header;
    if ((q === null || q >= rows) && (k === null || k >= cols)) return;
    const context = this.bands.getContext("2d");
    context.scale(scale, scale);
    context.strokeStyle = this.theme.accent;
    context.lineWidth = 1;
    for (const tile of this.tiles) {
      const h = tile.height / rows;
      const w = tile.width / cols;
      if (q !== null && q < rows) context.strokeRect(tile.x, tile.y + q * h, tile.width, h);
      if (k !== null && k < cols) context.strokeRect(tile.x + k * w, tile.y, w, tile.height);
    }
  }

  close() {
    this.link.send(null, null);
    this.link.close();
    this.resize.disconnect();
    this.root.remove();
  }
}

export default function (component) {
  return mount(HeadGrid, component);
}
