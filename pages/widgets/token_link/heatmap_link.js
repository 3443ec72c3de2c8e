// Ties a Plotly heatmap on the page into the hover link. Streamlit may make the chart anew at any rerun, so the
// chart is looked up at every event and nothing about it is kept.

class HeatmapLink {
  constructor(link) {
    this.link = link;
    this.holder = null;
    this.hover = [null, null];
    this.onHover = (event) => {
      const point = event.points?.[0];
      if (point) this.link.send(Math.round(point.y), Math.round(point.x));
    };
    this.onUnhover = () => this.link.send(null, null);
    this.onRedraw = () => this.show(...this.hover);
    this.onEnter = (event) => {
      const chart = this.chart();
      if (chart && event.target instanceof Node && chart.contains(event.target)) this.listen(chart);
    };
    document.addEventListener("pointerover", this.onEnter, true);
  }

  chart() {
    const found = this.holder && document.querySelector(`.${CSS.escape(this.holder)} .js-plotly-plot`);
    return found && found.on && found._fullLayout?.xaxis ? found : null;
  }

  /** Listen exactly once, also after Plotly has dropped all listeners with a purge. */
  listen(chart) {
    this.silence(chart);
    chart.on("plotly_hover", this.onHover);
    chart.on("plotly_unhover", this.onUnhover);
    chart.on("plotly_relayout", this.onRedraw);
  }

  silence(chart) {
    chart.removeListener?.("plotly_hover", this.onHover);
    chart.removeListener?.("plotly_unhover", this.onUnhover);
    chart.removeListener?.("plotly_relayout", this.onRedraw);
  }

  /** Bands over the row and the column, or none. */
  show(q, k) {
    this.hover = [q, k];
    const chart = this.chart();
    for (const band of document.querySelectorAll(`.${CSS.escape(this.holder || "none")} [data-am-band]`)) band.remove();
    const host = chart?.querySelector(".svg-container");
    if (!host) return;
    const { xaxis, yaxis } = chart._fullLayout;
    const colour = this.colour;
    if (q !== null) this.band(host, "row", colour, this.extent(yaxis, q), [xaxis._offset, xaxis._length]);
    if (k !== null) this.band(host, "column", colour, [yaxis._offset, yaxis._length], this.extent(xaxis, k));
  }

  /** [offset, length] in pixels of one cell along an axis, cut to what the zoom shows; null when out of sight. */
  extent(axis, position) {
    const ends = [axis.l2p(position - 0.5), axis.l2p(position + 0.5)].sort((a, b) => a - b);
    const from = Math.max(0, ends[0]);
    const to = Math.min(axis._length, ends[1]);
    return to > from ? [axis._offset + from, to - from] : null;
  }

  band(host, name, colour, vertical, horizontal) {
    if (!vertical || !horizontal) return;
    const band = document.createElement("div");
    band.dataset.amBand = name;
    Object.assign(band.style, {
      position: "absolute", pointerEvents: "none", boxSizing: "border-box", zIndex: "5",
      left: `${horizontal[0]}px`, width: `${horizontal[1]}px`, top: `${vertical[0]}px`, height: `${vertical[1]}px`,
      border: `1.5px solid ${colour}`,
    });
    host.append(band);
  }

  close() {
    document.removeEventListener("pointerover", this.onEnter, true);
    const chart = this.chart();
    if (chart) this.silence(chart);
    this.show(null, null);
  }
}
