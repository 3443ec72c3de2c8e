// Two strips of words. The first click or Enter chooses A, the second B; an arrow runs from A to B.

const PAIR_MARKS = { unknown: "?", fallback: "·" };
const SVG = "http://www.w3.org/2000/svg";

class WordPair {
  constructor(host) {
    this.root = element("div", "am-pair");
    this.strips = { source: this.strip("source"), output: this.strip("output") };
    this.titles = {};
    this.lines = {};
    for (const side of ["source", "output"]) {
      this.titles[side] = element("div", "am-pair-title");
      this.lines[side] = element("div", "am-pair-line");
      this.lines[side].append(this.titles[side], this.strips[side]);
      this.root.append(this.lines[side]);
    }
    this.hint = element("div", "am-pair-hint");
    this.hint.setAttribute("role", "status");
    this.arrow = document.createElementNS(SVG, "svg");
    this.arrow.setAttribute("class", "am-arrow");
    this.arrow.setAttribute("aria-hidden", "true");
    this.path = document.createElementNS(SVG, "path");
    this.head = document.createElementNS(SVG, "polygon");
    this.arrow.append(this.path, this.head);
    this.root.append(this.hint, this.arrow);
    host.append(this.root);
    this.half = null;
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.root);
  }

  strip(side) {
    const strip = element("div", "am-pair-strip");
    strip.setAttribute("role", "toolbar");
    strip.addEventListener("click", (event) => {
      const word = event.target.closest("button");
      if (word) this.choose(side, Number(word.dataset.index));
    });
    strip.addEventListener("keydown", (event) => {
      const words = [...strip.children];
      const at = words.indexOf(event.target.closest("button"));
      const targets = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: words.length - 1 };
      if (event.key === "Escape" && this.half) {
        this.half = null;
        this.mark();
      } else if (event.key in targets) {
        const target = words[Math.min(words.length - 1, Math.max(0, targets[event.key]))];
        this.reach(strip, target);
        target.focus();
      } else return;
      event.preventDefault();
    });
    return strip;
  }

  /** One word of a strip is reached by Tab, the others from it by the arrow keys. */
  reach(strip, target) {
    for (const word of strip.children) word.tabIndex = word === target ? 0 : -1;
  }

  update(header, body, trigger) {
    this.header = header;
    this.trigger = trigger;
    const words = JSON.stringify([header.source, header.flags, header.output, header.texts]);
    this.root.style.setProperty("--am-accent", readTheme(this.root, header).accent);
    if (words !== this.words) {
      this.words = words;
      this.fill("source", header.source, header.flags);
      this.fill("output", header.output, []);
    }
    const chosen = JSON.stringify(header.chosen);
    if (chosen !== this.chosen) this.half = null;
    this.chosen = chosen;
    this.mark();
  }

  fill(side, labels, flags) {
    this.half = null;
    this.lines[side].hidden = labels.length === 0;
    this.titles[side].textContent = this.header.texts[side];
    this.strips[side].setAttribute("aria-label", this.header.texts[side]);
    this.strips[side].replaceChildren(...labels.map((label, index) => {
      const word = element("button", "am-word");
      word.type = "button";
      word.tabIndex = index === 0 ? 0 : -1;
      word.dataset.index = String(index);
      word.dataset.flag = flags[index] || "";
      const meaning = flags[index] ? `${label} (${this.header.texts[flags[index]]})` : label;
      word.title = meaning;
      word.dataset.meaning = meaning;
      word.append(element("span", "am-role"), isolated(label));
      if (PAIR_MARKS[flags[index]]) word.append(element("span", "am-mark", PAIR_MARKS[flags[index]]));
      return word;
    }));
  }

  choose(side, index) {
    this.reach(this.strips[side], this.strips[side].children[index]);
    if (!this.half) {
      this.half = { side, query: index };
      this.mark();
    } else if (this.half.side === side && this.half.query === index) {
      this.half = null;
      this.mark();
    } else if (side === "source") {
      const pair = { ...this.half, key: index };
      this.half = null;
      this.header.chosen = { side: pair.side, query: [pair.query], key: [pair.key] };
      this.chosen = JSON.stringify(this.header.chosen);
      this.mark();
      this.trigger("pair", pair);
    }
  }

  shown() {
    return this.half ? { side: this.half.side, query: [this.half.query], key: [] } : this.header.chosen;
  }

  mark() {
    const { side, query, key } = this.shown();
    for (const name of ["source", "output"]) {
      for (const word of this.strips[name].children) {
        const index = Number(word.dataset.index);
        const role = name === side && query.includes(index) ? "A" : name === "source" && key.includes(index) ? "B" : "";
        word.dataset.role = role;
        word.firstChild.textContent = role;
        word.setAttribute("aria-pressed", String(role !== ""));
        word.setAttribute("aria-label", role ? `${role}: ${word.dataset.meaning}` : word.dataset.meaning);
        // B is a word of the source: while it is looked for, the output's other words are out of reach.
        word.disabled = Boolean(this.half) && name === "output" && role !== "A";
      }
    }
    this.hint.textContent = this.header.texts[this.half ? "second" : "first"];
    this.root.dataset.state = this.half ? "half" : key.length && query.length ? "pair" : "none";
    this.draw();
  }

  /** The box around some words of a strip, in the root's pixels; null for none. */
  box(side, indices) {
    const boxes = indices.map((index) => this.strips[side].children[index]?.getBoundingClientRect()).filter(Boolean);
    if (!boxes.length) return null;
    const origin = this.root.getBoundingClientRect();
    // Words of one reference may stand on two lines; the arrow keeps to the first.
    const line = boxes.filter((box) => Math.abs(box.top - boxes[0].top) < 4);
    const left = Math.min(...line.map((box) => box.left));
    const right = Math.max(...line.map((box) => box.right));
    return { x: (left + right) / 2 - origin.left, top: line[0].top - origin.top, bottom: line[0].bottom - origin.top };
  }

  draw() {
    if (!this.header) return;
    const { side, query, key } = this.shown();
    const from = this.box(side, query);
    const to = this.box("source", key);
    this.arrow.style.display = from && to ? "" : "none";
    if (!from || !to) return;
    const { width, height } = this.root.getBoundingClientRect();
    this.arrow.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const down = side === "source";
    const start = [from.x, from.top - 1];
    const end = [to.x, down ? to.top - 1 : to.bottom + 1];
    const point = down ? -9 : 9;
    const lift = down ? Math.min(26, 12 + Math.abs(end[0] - start[0]) / 14) + 8 : (start[1] - end[1]) / 2;
    const bend = [start[1] - lift, down ? end[1] - lift : end[1] + lift];
    this.path.setAttribute("d",
      `M${start} C${start[0]},${bend[0]} ${end[0]},${bend[1]} ${end[0]},${end[1] + point * 0.8}`);
    this.head.setAttribute("points",
      `${end} ${end[0] - 5},${end[1] + point} ${end[0] + 5},${end[1] + point}`);
    this.root.dataset.arrow = [start, end].flat().map(Math.round).join(",");
  }

  close() {
    this.resized.disconnect();
    this.root.remove();
  }
}

export default function (component) {
  return mount(WordPair, component);
}
