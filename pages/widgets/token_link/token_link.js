// Two strips of tokens. Pointing at one shows its row or column in every view; choosing a query opens its row.

const MARKS = { unknown: "?", fallback: "·" };

class TokenLink {
  constructor(host) {
    this.root = element("div", "am-tokens");
    this.strips = { q: this.strip("am-queries", "q"), k: this.strip("am-keys", "k") };
    this.titles = { q: element("div", "am-title"), k: element("div", "am-title") };
    for (const axis of ["q", "k"]) {
      const line = element("div", "am-line");
      line.append(this.titles[axis], this.strips[axis]);
      this.root.append(line);
    }
    this.hint = element("div", "am-hint");
    this.root.append(this.hint);
    host.append(this.root);
    this.hover = [null, null];
    this.link = new HoverLink((q, k) => this.showHover(q, k));
    this.heatmap = new HeatmapLink(this.link);
  }

  strip(className, axis) {
    const strip = element("div", `am-strip ${className}`);
    strip.setAttribute("role", "listbox");
    strip.setAttribute("aria-orientation", "horizontal");
    strip.tabIndex = 0;
    const send = (position) => (axis === "q" ? this.link.send(position, null) : this.link.send(null, position));
    strip.addEventListener("pointerover", (event) => {
      const chip = event.target.closest(".am-chip");
      if (chip) send(Number(chip.dataset.position));
    });
    strip.addEventListener("pointerleave", () => this.link.send(null, null));
    strip.addEventListener("blur", () => this.link.send(null, null));
    strip.addEventListener("click", (event) => {
      const chip = event.target.closest(".am-chip");
      if (chip && axis === "q") this.choose(Number(chip.dataset.position));
    });
    strip.addEventListener("keydown", (event) => {
      const last = strip.children.length - 1;
      const at = this.hover[axis === "q" ? 0 : 1];
      const targets = {
        ArrowRight: at === null ? 0 : at + 1, ArrowLeft: at === null ? last : at - 1, Home: 0, End: last,
      };
      if (event.key === "Escape") this.link.send(null, null);
      else if ((event.key === "Enter" || event.key === " ") && axis === "q" && at !== null) this.choose(at);
      else if (event.key in targets && last >= 0) {
        const target = Math.min(last, Math.max(0, targets[event.key]));
        send(target);
        strip.children[target].scrollIntoView({ block: "nearest" });
      } else return;
      event.preventDefault();
    });
    return strip;
  }

  update(header, body, trigger) {
    this.header = header;
    this.trigger = trigger;
    this.link.stream = header.stream;
    const theme = readTheme(this.root, header);
    this.root.style.setProperty("--am-accent", theme.accent);
    this.heatmap.holder = header.heatmap;
    this.heatmap.colour = theme.accent;
    this.hint.textContent = header.texts.hint;
    this.fill("q", header.queries, header.query_flags, header.texts.query);
    this.fill("k", header.keys, header.key_flags, header.texts.key);
    this.mark(header.selected);
    this.showHover(...this.hover);
  }

  fill(axis, labels, flags, name) {
    this.titles[axis].textContent = name;
    this.strips[axis].setAttribute("aria-label", name);
    this.strips[axis].replaceChildren(...labels.map((label, position) => {
      const flag = flags[position];
      const chip = element("span", "am-chip");
      chip.id = `am-${axis}-${position}`;
      chip.dataset.position = String(position);
      chip.dataset.flag = flag;
      chip.setAttribute("role", "option");
      const meaning = flag ? `${label} (${this.header.texts[flag]})` : label;
      chip.title = `${position}: ${meaning}`;
      chip.setAttribute("aria-label", meaning);
      chip.append(nameOf(label));
      if (MARKS[flag]) chip.append(element("span", "am-mark", MARKS[flag]));
      return chip;
    }));
  }

  mark(selected) {
    for (const chip of this.strips.q.children) {
      chip.setAttribute("aria-selected", String(Number(chip.dataset.position) === selected));
    }
  }

  choose(position) {
    this.mark(position);
    this.trigger("chosen", position);
  }

  showHover(q, k) {
    this.hover = [q, k];
    this.root.dataset.hover = `${q},${k}`;
    for (const [axis, pointed] of [["q", q], ["k", k]]) {
      const strip = this.strips[axis];
      strip.removeAttribute("aria-activedescendant");
      for (const chip of strip.children) {
        const here = Number(chip.dataset.position) === pointed;
        chip.classList.toggle("am-pointed", here);
        if (here) strip.setAttribute("aria-activedescendant", chip.id);
      }
    }
    this.heatmap.show(q, k);
  }

  close() {
    this.link.close();
    this.heatmap.close();
    this.root.remove();
  }
}

export default function (component) {
  return mount(TokenLink, component);
}
