// What every canvas component starts with: the message, the theme, and the hover that links all views.
// Read before a component's own script; nothing here draws.

const HOVER = "attention-microscope:hover";

/** u32 header length, JSON header, body → {header, body}. */
function decode(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const length = view.getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(data.subarray(4, 4 + length)));
  return { header, body: data.subarray(4 + length) };
}

/** An element with a class and plain text; text is never parsed as HTML. */
function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** A token's text, kept from turning the direction of what stands beside it. */
function isolated(text) {
  return element("bdi", "", text);
}

/** Characters at a label's end that stay when it is cut. */
const TAIL = 8;

/** A token's name that loses its middle where there is no room: a row begins with what it predicts and ends with what
 * it reads. Of right-to-left text the two pieces would change places, so it stays whole. */
function nameOf(label) {
  const name = element("span", "am-name");
  const characters = Array.from(label);
  if (characters.length <= 2 * TAIL || /[\u0590-\u08ff\ufb1d-\ufefc]/.test(label)) {
    name.append(isolated(label));
    return name;
  }
  name.classList.add("am-split");
  const [start, end] = [element("span", "am-start"), element("span", "am-end")];
  start.append(isolated(characters.slice(0, -TAIL).join("")));
  end.append(isolated(characters.slice(-TAIL).join("")));
  name.append(start, end);
  return name;
}

function rgbOf(colour) {
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = colour;
  const hex = probe.fillStyle;
  if (hex[0] === "#") return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return hex.match(/[\d.]+/g).slice(0, 3).map(Number);
}

/** The page's theme as Streamlit's style variables give it, and the palette that belongs to it. */
function readTheme(host, header) {
  const style = getComputedStyle(host);
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const background = rgbOf(read("--st-background-color", "#ffffff"));
  const dark = 0.299 * background[0] + 0.587 * background[1] + 0.114 * background[2] < 128;
  const name = dark ? "dark" : "light";
  return { name, colours: header.colours[name], accent: header.accent[name], text: read("--st-text-color", "#31333f") };
}

/** Colours as little-endian RGBA words, for ImageData. */
function colourWords(colours) {
  return Uint32Array.from(colours, (colour) => {
    const [r, g, b] = rgbOf(colour);
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
}

function weightOf(byte) {
  return (byte - 1) / 254;
}

/** Size a canvas for the screen's pixels; returns the scale, less than the screen's when memory asks for it. */
function sizeCanvas(canvas, width, height) {
  const most = 32e6;
  const scale = Math.min(window.devicePixelRatio || 1, Math.sqrt(most / Math.max(1, width * height)));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.style.width = `${canvas.width / scale}px`;
  canvas.style.height = `${canvas.height / scale}px`;
  return scale;
}

/** Tell every view on the page which query and key are pointed at; null for none. */
class HoverLink {
  constructor(onHover) {
    this.stream = null;
    this.last = "";
    this.listener = (event) => {
      const { stream, q, k } = event.detail || {};
      if (stream !== this.stream) return;
      this.last = `${q},${k}`;
      onHover(Number.isInteger(q) ? q : null, Number.isInteger(k) ? k : null);
    };
    window.addEventListener(HOVER, this.listener);
  }

  send(q, k) {
    if (this.last === `${q},${k}`) return;
    window.dispatchEvent(new CustomEvent(HOVER, { detail: { stream: this.stream, q, k } }));
  }

  close() {
    window.removeEventListener(HOVER, this.listener);
  }
}

const instances = new WeakMap();

/** Streamlit calls the component again for every rerun and theme change: keep one view per place on the page. */
function mount(View, { data, parentElement, setTriggerValue }) {
  let view = instances.get(parentElement);
  if (!view) {
    view = new View(parentElement);
    instances.set(parentElement, view);
  }
  const { header, body } = decode(data);
  view.update(header, body, setTriggerValue);
  return () => {
    view.close();
    instances.delete(parentElement);
  };
}
