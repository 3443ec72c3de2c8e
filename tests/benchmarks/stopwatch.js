// Runs in the page: the time from a person's key or click to the frame in which a picture has changed and been painted.

(() => {
  /** The first element that `selector` finds, also inside shadow roots. */
  function find(selector, root = document) {
    const hit = root.querySelector(selector);
    if (hit) return hit;
    for (const node of root.querySelectorAll("*")) {
      const found = node.shadowRoot && find(selector, node.shadowRoot);
      if (found) return found;
    }
    return null;
  }

  const known = {};

  /** As `find`, but searched for again only once the element is gone: the watch must not slow what it times. */
  function keep(selector) {
    if (!known[selector]?.isConnected) known[selector] = find(selector);
    return known[selector];
  }

  /** What is painted now: a canvas component's digest of its pixels, or the weights that Plotly has drawn. */
  const signatures = {
    grid: () => keep(".am-grid")?.dataset.digest,
    lines: () => keep(".am-lines")?.dataset.digest,
    heatmap: () => {
      const trace = keep(".st-key-heatmap .js-plotly-plot")?._fullData?.find((data) => data.type === "heatmap");
      return trace && Array.from(trace.z, (row) => Array.from(row).join()).join(";");
    },
  };

  const everything = { subtree: true, childList: true, characterData: true, attributes: true };

  /**
   * Arms the watch: it starts with the next event of `type`, and stops when every one of `names` has changed.
   *
   * It looks when the page has changed, not in every frame: a frame asked for is a frame painted, in the time that is
   * measured.
   */
  window.stopwatch = (type, names) => {
    const before = names.map((name) => signatures[name]());
    window.stopped = null;
    const start = (event) => {
      if (event.key !== undefined && event.key !== "Enter") return;
      window.removeEventListener(type, start, true);
      const started = event.timeStamp;
      const observer = new MutationObserver(() => look());
      const look = () => {
        const after = names.map((name) => signatures[name]());
        if (after.every((value, i) => value && value !== before[i])) {
          observer.disconnect();
          // The next frame shows it; when the one after begins, it has been shown.
          requestAnimationFrame(() => requestAnimationFrame((now) => { window.stopped = now - started; }));
          return;
        }
        // Each shadow root is a page of its own to an observer; a component made anew has another one.
        for (const element of Object.values(known)) if (element) observer.observe(element.getRootNode(), everything);
      };
      observer.observe(document, everything);
      look();
    };
    window.addEventListener(type, start, true);
    return before;
  };
})();
