// Runs of the app as this page sees them: `runs.settled` waits until each one that it asked for has ended and is drawn.
//
// It reads the websocket's messages as far as their kind: BackMsg.rerun_script is field 11; of ForwardMsg, new_session
// is field 4 and script_finished field 6, where 2 says that the run was interrupted for the next one.
(() => {
  const ASKS = 11, BEGINS = 4, ENDS = 6, INTERRUPTED = 2;
  // A page begins with a run, which the browser asks for once it is connected.
  let open = true;
  let begun = false;

  function* fields(bytes) {
    let at = 0;
    const number = () => {
      let value = 0;
      for (let factor = 1; ; factor *= 128) {
        const byte = bytes[at++];
        value += (byte & 127) * factor;
        if (byte < 128) return value;
      }
    };
    while (at < bytes.length) {
      const tag = number();
      const kind = tag & 7;
      const value = kind === 0 || kind === 2 ? number() : 0;
      yield [tag >> 3, value];
      at += kind === 2 ? value : kind === 1 ? 8 : kind === 5 ? 4 : 0;
    }
  }

  function sent(data) {
    for (const [field] of fields(new Uint8Array(data))) {
      if (field !== ASKS) continue;
      open = true;
      begun = false;
    }
  }

  function received(data) {
    for (const [field, value] of fields(new Uint8Array(data))) {
      if (field === BEGINS) begun = true;
      if (field === ENDS && begun && value !== INTERRUPTED) open = false;
    }
  }

  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ data }) => data instanceof ArrayBuffer && received(data));
    }

    send(data) {
      if (typeof data !== "string") sent(data);
      super.send(data);
    }
  };

  const later = (milliseconds = 20) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const drawn = () => new Promise((resolve) => requestAnimationFrame(() => requestIdleCallback(resolve)));
  // A skeleton stands where the script of an element is still being loaded; a stale element is about to go.
  const still = () => !open && document.querySelector('[data-testid="stApp"][data-test-script-state="notRunning"]') &&
    !document.querySelector('[data-testid="stSkeleton"], [data-stale="true"]');

  window.runs = {
    /** Resolves once the page has been still twice in a row; says false where it is not within `milliseconds`. */
    async settled(milliseconds) {
      const end = Date.now() + milliseconds;
      // Twice idle: what has arrived is drawn before the first, what drawing it asks for is sent before the second.
      // Until then it looks rarely: a frame asked for is a frame painted, by a processor that the app needs.
      for (let calm = 0; calm < 2;) {
        if (Date.now() > end) return false;
        if (!still()) {
          calm = 0;
          await later();
          continue;
        }
        // A tab that is not shown paints no frame.
        await Promise.race([drawn(), later(end - Date.now())]);
        calm = still() ? calm + 1 : 0;
      }
      return true;
    },
  };
})();
